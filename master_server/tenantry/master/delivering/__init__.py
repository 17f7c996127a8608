"""How receivers are reached: templates, the guard before each connection, and one adapter for each kind."""
