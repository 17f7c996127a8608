"""U1 to U7: tunnels, beside `ssh -L` through `ssh -R` and three raw relays that carry the same in turns with them."""
