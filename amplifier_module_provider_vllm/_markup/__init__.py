"""What models write: reasoning, calls and text, read from raw output."""
