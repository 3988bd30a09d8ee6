"""What only the book's pages need: figures, widgets, measurements."""
