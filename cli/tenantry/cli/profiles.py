"""Profiles: which Masters this person works with, and the secrets for it, in one private YAML file.

The file is TENANTRY_PROFILES, or tenantry/profiles.yaml in XDG_CONFIG_HOME (by default ~/.config). It is replaced as a
whole, has mode 0600, and is not used when others can read it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from tenantry.cli.troubles import InputInvalid, LocalFileUnusable, NoMasterChosen
from tenantry.process.files import FileExposed, LeaseHeld, exclusive_lock, read_private, write_private

DEFAULT_TRUST_DOMAIN: Final = "tenantry.internal"
_VERSION: Final = 1
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Profile:
    """One Master: where it is, whom to trust there (root certificates, PEM), and what to sign in with.

    That is a token, of a ``session`` or of a program; or a machine's ``certificate`` with its ``key`` (PEM); or nothing, which
    is a stranger.
    """

    address: str
    trust_domain: str
    ca: str
    token: str = field(default="", repr=False)
    session: bool = False
    certificate: str = ""
    key: str = field(default="", repr=False)

    @property
    def signs_in_by(self) -> str:
        """The way of signing in, in a word."""
        return "certificate" if self.certificate else "session" if self.session else "token"


@dataclass(frozen=True, slots=True)
class Profiles:
    """All profiles by name, and the one in use.

    ``proofs`` of earlier sign-ins, by the Master's address and the user's name: they outlive profiles, so that who has signed out
    can sign in again whatever strangers do meanwhile.
    """

    current: str | None = None
    by_name: Mapping[str, Profile] = field(default_factory=dict)
    proofs: Mapping[str, Mapping[str, str]] = field(default_factory=dict, repr=False)

    def get(self, name: str) -> Profile:
        """A profile by name. Raises InputInvalid."""
        profile = self.by_name.get(name)
        if profile is None:
            known = ", ".join(sorted(self.by_name)) or "none"
            raise InputInvalid(f"there is no profile {name!r}", f"Profiles here: {known}. `tenantry login` adds one.")
        return profile

    def with_profile(self, name: str, profile: Profile) -> Profiles:
        """The same with this profile, which becomes the current one."""
        return replace(self, current=name, by_name={**self.by_name, name: profile})

    def without(self, name: str) -> Profiles:
        """The same without this profile. Raises InputInvalid."""
        self.get(name)
        rest = {other: profile for other, profile in self.by_name.items() if other != name}
        return replace(self, current=None if self.current == name else self.current, by_name=rest)

    def using(self, name: str) -> Profiles:
        """The same with this one as the current profile. Raises InputInvalid."""
        self.get(name)
        return replace(self, current=name)

    def proof_of(self, address: str, user: str) -> str:
        """The proof of an earlier sign-in of this user there; empty: none."""
        return self.proofs.get(address, {}).get(user.strip().casefold(), "")

    def with_proof(self, address: str, user: str, proof: str) -> Profiles:
        """The same with this proof in place of an older one of the same user."""
        return replace(self, proofs={**self.proofs, address: {**self.proofs.get(address, {}), user: proof}})

    def without_proofs(self, address: str) -> Profiles:
        """The same without what proves sign-ins there, unless a profile leads there still."""
        if any(profile.address == address for profile in self.by_name.values()):
            return self
        return replace(self, proofs={other: kept for other, kept in self.proofs.items() if other != address})


def check_profile_name(name: str) -> str:
    """The name itself. Raises InputInvalid when no profile can be called that."""
    if not _NAME.fullmatch(name):
        raise InputInvalid(f"{name!r} cannot be the name of a profile", "Use letters, digits, dot, dash, underscore.")
    return name


def profiles_path(environment: Mapping[str, str] = os.environ) -> Path:
    """Where the profiles are."""
    if chosen := environment.get("TENANTRY_PROFILES"):
        return Path(chosen)
    configuration = environment.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(configuration) / "tenantry" / "profiles.yaml"


def load_profiles(path: Path) -> Profiles:
    """The profiles in a file; none when there is no file. Raises LocalFileUnusable."""
    import yaml

    try:
        content = read_private(path)
    except FileNotFoundError:
        return Profiles()
    except FileExposed as error:
        raise LocalFileUnusable(
            f"the profiles are not used: {error}", "Your tokens may be known to others: replace them."
        ) from None
    except OSError as error:
        raise LocalFileUnusable(f"{path} cannot be read: {error.strerror}", "Check the file.") from None
    try:
        return _parse(yaml.safe_load(content))
    except (yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError):
        # The parser's own message quotes the line, which may hold a token.
        raise LocalFileUnusable(
            f"{path} does not hold profiles that this version understands", "Remove it and log in again."
        ) from None


def profile_names(incomplete: str) -> list[str]:
    """What a shell offers for the beginning of a profile's name; nothing when the profiles cannot be read."""
    try:
        return [name for name in sorted(load_profiles(profiles_path()).by_name) if name.startswith(incomplete)]
    except LocalFileUnusable:
        return []


@contextmanager
def changing_profiles(path: Path) -> Iterator[list[Profiles]]:
    """Hands out the profiles in a list of one; what stands in it at the end is written, unless nothing changed.

    Raises LocalFileUnusable, also while another process is changing them.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with exclusive_lock(path.with_name(f".{path.name}.lock")):
            before = load_profiles(path)
            held = [before]
            yield held
            if held[0] != before:
                write_private(path, _render(held[0]))
    except LeaseHeld as error:
        raise LocalFileUnusable(f"the profiles are being changed: {error}", "Try again in a moment.") from None
    except OSError as error:
        raise LocalFileUnusable(f"{path} cannot be written: {error.strerror}", "Check the folder.") from None


def choose_profile(name: str | None, environment: Mapping[str, str] = os.environ) -> Profile:
    """The Master that is meant: `name`, else TENANTRY_ADDRESS with its companions, else TENANTRY_PROFILE, else the current one.

    TENANTRY_ADDRESS needs TENANTRY_TOKEN_FILE and TENANTRY_CA_FILE beside it; TENANTRY_TRUST_DOMAIN is optional.
    Raises NoMasterChosen, InputInvalid, LocalFileUnusable.
    """
    if name is None and environment.get("TENANTRY_ADDRESS"):
        return _from_environment(environment)
    profiles = load_profiles(profiles_path(environment))
    chosen = name or environment.get("TENANTRY_PROFILE") or profiles.current
    if chosen is None:
        raise NoMasterChosen(
            "no Master is chosen",
            "`tenantry login` stores how to reach one; `tenantry profile use` chooses among several.",
        )
    return profiles.get(chosen)


def read_token(path: Path) -> str:
    """The token in a private file or a pipe, without white space around it. Raises LocalFileUnusable."""
    try:
        return read_secret(path, "token").encode().decode("ascii").strip()
    except UnicodeDecodeError:
        raise LocalFileUnusable(f"{path} does not hold a token", "A token is one line and starts with tna_.") from None


def read_secret(path: Path, what: str) -> str:
    """The text in a private file or a pipe. Raises LocalFileUnusable."""
    try:
        content = path.read_bytes() if path.exists() and not path.is_file() else read_private(path)
        return content.decode()
    except FileExposed as error:
        raise LocalFileUnusable(f"the {what} is not used: {error}", "It may be known to others: replace it.") from None
    except OSError as error:
        raise LocalFileUnusable(f"{path} cannot be read: {error.strerror}", "Check the path.") from None
    except UnicodeDecodeError:
        raise LocalFileUnusable(f"{path} does not hold a {what}", "It is text in UTF-8.") from None


def read_roots(path: Path) -> str:
    """The root certificates (PEM) in a file. Raises LocalFileUnusable."""
    try:
        text = path.read_text("ascii")
    except OSError as error:
        raise LocalFileUnusable(f"{path} cannot be read: {error.strerror}", "Check the path.") from None
    except UnicodeDecodeError:
        text = ""
    if "-----BEGIN CERTIFICATE-----" not in text:
        raise LocalFileUnusable(f"{path} holds no certificate", "Give the Master's root certificate in PEM.")
    return text


def _from_environment(environment: Mapping[str, str]) -> Profile:
    missing = [name for name in ("TENANTRY_TOKEN_FILE", "TENANTRY_CA_FILE") if not environment.get(name)]
    if missing:
        raise NoMasterChosen(
            f"TENANTRY_ADDRESS is set, but not {' and '.join(missing)}",
            "Set all of TENANTRY_ADDRESS, TENANTRY_TOKEN_FILE and TENANTRY_CA_FILE, or use a profile.",
        )
    return Profile(
        environment["TENANTRY_ADDRESS"],
        environment.get("TENANTRY_TRUST_DOMAIN") or DEFAULT_TRUST_DOMAIN,
        read_roots(Path(environment["TENANTRY_CA_FILE"])),
        read_token(Path(environment["TENANTRY_TOKEN_FILE"])),
    )


def _parse(document: Any) -> Profiles:
    if document is None:
        return Profiles()
    if document.keys() - {"version", "current", "profiles", "proofs"} or document["version"] != _VERSION:
        raise ValueError
    by_name = {check_profile_name(name): Profile(**fields) for name, fields in document["profiles"].items()}
    for profile in by_name.values():
        texts = (profile.address, profile.trust_domain, profile.ca, profile.token, profile.certificate, profile.key)
        if not all(isinstance(text, str) for text in texts) or not isinstance(profile.session, bool):
            raise TypeError
    current = document["current"]
    if current is not None and current not in by_name:
        raise ValueError
    proofs = {address: dict(kept) for address, kept in document.get("proofs", {}).items()}
    if not all(isinstance(text, str) for kept in proofs.values() for pair in kept.items() for text in pair):
        raise TypeError
    return Profiles(current, by_name, proofs)


def _render(profiles: Profiles) -> bytes:
    import yaml

    document: dict[str, Any] = {
        "version": _VERSION,
        "current": profiles.current,
        "profiles": {
            name: {
                key: value
                for key, value in asdict(profile).items()
                # What is not there is not written: a version that does not know it can then read the rest.
                if value or key == "token"
            }
            for name, profile in sorted(profiles.by_name.items())
        },
    }
    if profiles.proofs:
        document["proofs"] = {address: dict(sorted(kept.items())) for address, kept in sorted(profiles.proofs.items())}
    return yaml.safe_dump(document, sort_keys=False).encode()
