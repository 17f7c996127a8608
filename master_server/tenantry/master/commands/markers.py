"""Files in the data folder that stand there while a command makes it, so that what was cut short is known as such."""

from typing import Final

INITIALISING: Final = ".initialising"
"""From before the first key is made until the first token was shown."""
RESTORING: Final = ".restoring"
"""From before the first file of a backup is placed until the store is filled."""

UNFINISHED: Final = {INITIALISING: "init", RESTORING: "restore"}
"""The command that has to be repeated where a marker is found."""
