"""The control socket in the data folder: how `status`, `leave` and `notify` reach the running daemon.

One line of JSON asks, one line answers: ``{"command": "status"}`` -> ``{"ok": true, ...}``, or ``{"ok": false, "reason": ...,
"metadata": {...}}`` with the reason of a failure. Only the daemon's own user can open the socket.
"""
