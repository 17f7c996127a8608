"""Other servers for the same work, measured in the same run: programs of Debian's packages, each in a folder of its own."""
