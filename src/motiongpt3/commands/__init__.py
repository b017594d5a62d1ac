"""One module per group of commands. Importing one is cheap; what a command needs loads when it runs."""
