"""What a user holds fixed in a motion, and how it is met: constraints, the exact fit, the report, the field's files."""
