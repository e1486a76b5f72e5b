"""Settings -> `MountOptions`, whoever asks."""

from __future__ import annotations

from pathlib import Path

from modelfs.config import MountOptions, Secret
from modelfs.repository.keyfiles import public_keys
from modelfs.settings.options import Settings


def mount_options(chosen: Settings, store: str, mountpoint: Path, secret: Secret | None) -> MountOptions:
    """What is to be served: ``chosen`` says all but the store's URL, the place and what opens the store. UsageError: a
    public key cannot be read."""
    return MountOptions(
        store_url=absolute_store(store),
        mountpoint=mountpoint,
        branch=chosen.branch,
        at=chosen.at,
        read_only=chosen.read_only,
        refresh=chosen.refresh,
        write_back=chosen.write_back,
        drain_timeout=chosen.drain_timeout,
        store_timeout=chosen.store_timeout,
        cache_dir=chosen.cache_dir.absolute() if chosen.cache_dir else None,
        cache_size=chosen.cache_size,
        allow_other=chosen.allow_other,
        uid=chosen.uid,
        gid=chosen.gid,
        umask=chosen.umask,
        single_writer=chosen.single_writer,
        secret=secret,
        sign_with=chosen.sign_with.absolute() if chosen.sign_with is not None else None,
        verify_with=tuple(str(key) for word in chosen.verify_with for key in public_keys(word)),
        allow_source=tuple(absolute_store(source) for source in chosen.allow_source),
        compression=chosen.compression,
        session=chosen.session,
        fuse_options=chosen.fuse_options,
        metrics=chosen.metrics,
        log_file=chosen.log_file.absolute() if chosen.log_file else None,
        debug=chosen.debug,
    )


def absolute_store(store: str) -> str:
    """A plain path must not depend on a working directory."""
    return store if "://" in store else str(Path(store).expanduser().absolute())
