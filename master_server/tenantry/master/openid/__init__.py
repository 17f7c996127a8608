"""The OpenID provider, over HTTP: discovery, the code and the device flow, and the ID tokens that come of them."""
