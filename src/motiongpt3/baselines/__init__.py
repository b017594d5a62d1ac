"""What the paper compares with: a single stream, quantised codes, their training."""
