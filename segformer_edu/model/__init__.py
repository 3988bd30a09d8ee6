"""The model: what chapters 1 to 6 build as the sketch, 8 as the paper has it, and 10 makes fast."""
