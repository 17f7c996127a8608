"""What the daemon does: collecting, notifying, behaving as the Master says, telling how it is."""
