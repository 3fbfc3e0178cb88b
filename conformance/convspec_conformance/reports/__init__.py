"""What a run gives to read: for a terminal, a browser, a CI server, or another program."""
