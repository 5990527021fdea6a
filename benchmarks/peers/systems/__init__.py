"""The peers, a file each, as their documents tell a user to run them."""
