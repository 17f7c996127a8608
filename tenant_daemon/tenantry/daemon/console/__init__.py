"""The local console: a small web page on loopback for whoever may ask the daemon on its control socket, and for nobody else."""
