"""Why a store is not opened, backed up or restored: messages for whoever starts the program."""


class StoreRefused(Exception):
    """The store cannot be used as it is. Only subclasses are raised; none names the DSN, which may hold a password."""


class StoreInUse(StoreRefused):
    """Another Master has the store's lease; `pid` is its process id where it is known."""

    def __init__(self, pid: int | None = None) -> None:
        holder = f" (process {pid})" if pid is not None else ""
        super().__init__(f"another Master{holder} uses this store; stop it first, or give this one a store of its own")
        self.pid = pid


class DurabilityRefused(StoreRefused):
    """The store would acknowledge what a power cut can take back."""

    def __init__(self, setting: str, found: str, wanted: str) -> None:
        super().__init__(f"the store is not durable: {setting} is {found}, must be {wanted}")
        self.setting = setting


class StoreNewer(StoreRefused):
    """A newer version of this program has migrated the store."""

    def __init__(self) -> None:
        super().__init__("a newer version of Tenantry has written this store; start that version, or restore a backup")


class SchemaDiffers(StoreRefused):
    """A store has another schema than this program's, and is not this program's to migrate now."""

    def __init__(self) -> None:
        super().__init__(
            "another version of Tenantry has written this store; use that version, or start a Master of this one first"
        )


class StoreUnreachable(StoreRefused):
    """The database cannot be opened or reached."""

    def __init__(self, cause: str) -> None:
        super().__init__(f"the store cannot be opened: {cause}")


class DsnInvalid(StoreRefused):
    """A DSN that names no store of ours."""

    def __init__(self) -> None:
        super().__init__("the store's DSN must be sqlite:////absolute/path or postgresql://user@host/database")


class StoreNotEmpty(StoreRefused):
    """A backup is only restored into an empty store."""

    def __init__(self) -> None:
        super().__init__("the store holds data already; restore into an empty one")


class BackupUnreadable(StoreRefused):
    """A file is no backup, or is damaged."""

    def __init__(self, cause: str) -> None:
        super().__init__(f"the backup cannot be read: {cause}")
