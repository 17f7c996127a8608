"""All generated pages by their place in the repository."""

from collections.abc import Callable

from tests.tooling.reference import access, calls, daemon_settings, failures, figures, master_settings, states, streams

PAGES: dict[str, Callable[[], str]] = {
    "docs/reference/access.md": access.render,
    "docs/reference/calls.md": calls.render,
    "docs/reference/daemon-settings.md": daemon_settings.render,
    "docs/reference/failures.md": failures.render,
    "docs/reference/figures.md": figures.render,
    "docs/reference/master-settings.md": master_settings.render,
    "docs/reference/states.md": states.render,
    "docs/reference/streams.md": streams.render,
}
