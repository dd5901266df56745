"""The shipped application: moderation and analysis of shop reviews. Imports only `penstock`."""
