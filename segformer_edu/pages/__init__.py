"""What only pages and notebooks need: figures, tables, widgets, measurements."""
