"""The kernel side: pyfuse3 requests, mounting, the daemon and its control socket."""
