"""Every capacity, bound, timeout and default of modelfs in one place, with the reason beside it.

Sizes are in bytes, times in seconds.
"""

from __future__ import annotations

from typing import Final

KiB: Final = 1024
MiB: Final = 1024 * KiB
GiB: Final = 1024 * MiB

# --- chunks (format parameters: recorded in format.json; changing the defaults changes new stores only)
CHUNK_MIN: Final = 256 * KiB
CHUNK_AVG: Final = 4 * MiB  # object stores reach their throughput at 4 MiB; 33x fewer objects than 64 KiB
CHUNK_MAX: Final = 8 * MiB
TENSOR_GROUP: Final = 128 * KiB  # tensors below this are grouped: 64-256 KiB measured good, 1 MiB bad
INLINE_MAX: Final = 4 * KiB  # files up to this live in the tree entry

# --- deltas
DELTA_MARGIN: Final = {"balanced": 0.06, "small": 0.02}  # saved of what the chunk costs plain, by compression: reading
# a delta reads its base as well, so less is not worth it, and with "fast" and "none" nothing is
DELTA_JOBS: Final = 4  # deltas being worked on at once in a process: each holds ten times its chunk
DELTA_TRIALS: Final = 8  # chunks of a file in a row that do not become deltas before trying becomes rare
DELTA_TRIAL_STEP: Final = 16  # one in so many chunks is tried then
DELTA_EARLIER: Final = 3  # earlier versions of a piece that a writer tries
DELTA_HEADS: Final = 100_000  # remembered heads of stored chunks
DELTA_PIECES: Final = 50_000  # pieces of tensors of which a mount remembers the newest versions: 200 GB, 20 MB here
DELTA_FILES: Final = 16  # files of the branch that are looked at for earlier versions when a mount remembers none
DELTA_DIRECTORIES: Final = 4  # newest sibling directories that are searched for them
DELTA_ENTRIES: Final = 5_000  # entries of one directory that are looked at

# --- metadata bounds: what a hostile store can make us hold
META_OBJECT_MAX: Final = 64 * MiB  # encoded and decoded; a 1 TiB file of 4 MiB chunks needs 10 MiB
NAME_MAX: Final = 255  # bytes, as Linux
PATH_MAX: Final = 4096
TREE_DEPTH_MAX: Final = 256
FILE_SIZE_MAX: Final = 2**63 - 1
SYMLINK_MAX: Final = 4095
XATTR_VALUE_MAX: Final = 64 * KiB  # as the kernel's XATTR_SIZE_MAX
XATTR_TOTAL_MAX: Final = 64 * KiB
TREE_PAGE_SINGLE: Final = 2000  # a directory up to this many entries is one page
TREE_PAGE_TARGET: Final = 1024  # expected entries of a page of a larger directory
TREE_PAGE_MAX: Final = 4096

# --- store access
STORE_CONCURRENCY: Final = 16  # gains beyond 8-16 in flight are small on one machine and cost memory
STORE_CONNECT_TIMEOUT: Final = 5.0
STORE_REQUEST_TIMEOUT: Final = 60.0  # one request of one 8 MiB object on a slow line
STORE_OPEN_TIMEOUT: Final = 12.0  # the first request of a command: "unreachable" is said within 15 s
STORE_ATTEMPTS: Final = 5
STORE_BACKOFF_FIRST: Final = 0.1
STORE_BACKOFF_MAX: Final = 5.0
STORE_RETRY_BUDGET: Final = 60.0  # total time of all attempts of one operation
PROBE_WRITERS: Final = 8  # concurrent exclusive creations when a store is opened for writing
LEASE_TTL: Final = 60.0  # --single-writer lease, renewed at a third of it

# --- worker pools of one mount
READ_THREADS: Final = 16
UPLOAD_THREADS: Final = 4  # chunk + hash + encode + put: each holds a plain and an encoded chunk
LOCAL_IO_THREADS: Final = 8
META_THREADS: Final = 8

# --- reading
PREFETCH_STEP: Final = 4 * MiB  # read-ahead is extended by at least this or half the window
PREFETCH_MAX: Final = 64 * MiB
CHUNK_MEMORY: Final = 96 * MiB  # chunks that came last: a full window, and what is being read
KERNEL_READAHEAD: Final = 2 * MiB  # 128 KiB (the default) makes a 2 GB load 16,384 requests; 4 overshoots
KERNEL_DIRTY_PERCENT: Final = 40  # of the kernel's limit for dirty pages; at the default of 1 writers are throttled
FUSE_MAX_IO: Final = 1 * MiB

# --- cache
CACHE_SIZE_DEFAULT: Final = 50 * GiB
CACHE_DISK_FREE_SHARE: Final = 0.05  # of the disk, left to others
CACHE_LOW_WATER: Final = 0.9  # an eviction run frees down to this share of the limit

# --- writing
SYNC_BEHIND: Final = 32 * MiB  # written bytes before the kernel is told to bring them to the disk (write-back)
WRITE_BEHIND: Final = 16 * MiB  # contiguous dirty bytes before chunks are cut behind the write head
COMMIT_DELAY: Final = 0.5  # namespace changes reach the store within a second
COMMIT_REBASES: Final = 64  # lost races in a row before ConflictError
UMOUNT_TIMEOUT: Final = 600.0
DEAD_SESSION_WAIT: Final = 30.0  # a killed daemon holds its journal until its last disk write is through
DEAD_SESSION_POLL: Final = 0.01

# --- following
REFRESH_DEFAULT: Final = 1.0
KERNEL_CACHE_TIMEOUT: Final = 3600.0  # entries and attributes of history, which does not change
KERNEL_CACHE_SHARE: Final = 0.25  # of the refresh interval, for others; asking the store takes the rest
CUT_JOBS: Final = 3  # windows of 2 x CHUNK_MAX being cut at once in one mount: 48 MiB
DETECT_HEAD: Final = 64 * KiB  # first look at a file's format
FINISH_ROUNDS: Final = 100  # a close that races with writers cuts again this often before it gives up
INLINE_WRITE: Final = 64 * KiB  # writes up to this go to the staging file without a thread hop
COMMIT_RETRY: Final = 5.0  # between attempts to commit namespace changes while the store is away
FINISH_JOBS: Final = 8  # closes being finished at once
KEPT_INODE_NUMBERS: Final = 100_000  # numbers of files created here that the kernel forgot: 200 bytes each
PREFETCHES: Final = 16  # chunks being read ahead at once in one mount
PREFETCH_QUEUE: Final = 64  # and waiting for their turn
PREFETCH_STREAMS: Final = 8  # places in which one open file is read in order
LISTING_NODES: Final = 10_000  # a directory up to this size gets all its nodes made when it is listed
HEAP_BLOCK_MAX: Final = 32 * MiB  # glibc's upper bound for M_MMAP_THRESHOLD on 64-bit; larger blocks stay mmaps
HEAP_KEEP: Final = 128 * MiB  # free heap that is kept instead of given back
HEAP_ARENAS: Final = 2
FUSE_TASKS: Final = 64  # requests handled at once; each holds a 1 MiB request buffer
READY_TIMEOUT: Final = 60.0  # for a mount in the background to answer
CONTROL_TIMEOUT: Final = 5.0
CACHE_FLUSH_ROWS: Final = 64  # chunks written to the cache before their index rows are committed together
CACHE_FLUSH_SHARE: Final = 1 / 128  # of the limit: rows for more bytes than this are committed at once
CACHE_BUSY_TIMEOUT: Final = 10.0  # waiting for another process's index transaction, which takes milliseconds
CACHE_VERIFY_BUFFERS: Final = 4  # chunks being checked at once: 32 MiB at most; each hashes at 4.6 GB/s
CACHE_BORROW_FILES: Final = 64  # other cache files one reader keeps open: file descriptors are 1,024 by default
CACHE_EVICT_RETRY: Final = 5.0  # a full cache with nothing to evict is not scanned again sooner than this
CACHE_EVICT_BATCH: Final = 64  # eviction candidates read from the index at once
CACHE_LOOKUP_BATCH: Final = 500  # chunk ids in one query: the oldest SQLite takes 999 parameters

# --- what a hostile store can make us hold, continued (repository)
CHUNK_LENGTH_MAX: Final = 32 * MiB  # of any chunk a manifest may declare; stores may choose chunking up to this
MANIFEST_CHUNKS_MAX: Final = 1_600_000  # 6 TiB at the average size: 60 MiB encoded
XATTR_NAME_MAX: Final = 255  # as Linux
TREE_PAGE_BYTES: Final = 1 * MiB  # a page ends here even with few entries: inline files and xattrs make them heavy
TREE_INDEX_LEVELS: Final = 8  # 1024 ** 3 entries need three
COMMIT_TEXT_MAX: Final = 64 * KiB  # characters of message, host or user
FORMAT_OBJECT_MAX: Final = 64 * KiB  # format.json is some 300 bytes
META_MEMORY: Final = 32 * MiB  # decoded tree pages and manifests kept by one repository
META_MEMORY_FACTOR: Final = 4  # decoded, per msgpack byte: manifests 3.4, pages of files 4.3, tiny entries 10
META_FLUSH: Final = 16 * MiB  # encoded tree pages gathered before they are written META_THREADS at a time
KNOWN_IDS: Final = 262_144  # objects remembered as present: 1 TiB of average chunks in 40 MiB of memory
BAD_IDS: Final = 65_536  # objects remembered as damaged or missing; beyond it nothing is deduplicated on hearsay
RECENT_COMMITS: Final = 256  # commit records kept to verify parents without asking again
COMMIT_PROBES: Final = 32  # newer commits looked for one by one before the branch is listed
COMMIT_PREFIX_MIN: Final = 8  # hex digits that name a commit
REFS_SHOWN: Final = 8  # names listed by "no such branch"
JOURNAL_RECORD_MAX: Final = 64 * MiB  # a longer frame is damage
JOURNAL_REWRITE: Final = 1 * MiB  # a log above this is rewritten after a commit
PROBE_ROUNDS: Final = 3  # a server that lets two writers win does so in most rounds
FSSPEC_CONNECTIONS: Final = 8  # OpenSSH answers at most 10 new logins at once by default
LOCAL_TEMPORARY_AGE: Final = 24 * 3600.0  # a temporary file of a local store this old has no writer any more
TENSOR_TABLE_MAX: Final = 200_000  # tensors of one file that the store remembers: 12 MB of metadata
LAYOUT_SPANS_MAX: Final = 1_000_000  # tensors of one file
LAYOUT_READS_MAX: Final = 200_000  # requests of one parser: a file may describe itself in circles
LAYOUT_BYTES_MAX: Final = 128 * MiB  # bytes that one parser may look at
LAYOUT_READ_AHEAD: Final = 16 * KiB
LAYOUT_TOLD_EVERY: Final = 4 * MiB  # a growing archive tells what it knows after so many bytes
PICKLE_OPS_MAX: Final = 5_000_000
PICKLE_FIRST_READ: Final = 64 * KiB
PICKLE_SIZE_MAX: Final = 32 * MiB
ZIP_SEARCH: Final = 4 * KiB  # members without a size in front that are no tensors are shorter than this
SAFETENSORS_HEADER_MAX: Final = 32 * MiB  # 250,000 tensors; the format itself allows 100 MB
CACHE_VERIFIED_FILES: Final = 1024  # closed cache files whose verified chunks are remembered: 20 KiB for 2 GB each
SSH_KEEPALIVE: Final = 30  # between signs of life on an SSH connection
STAT_BLOCK: Final = 128 * KiB  # st_blksize: Python's open() buffers that much, also to read 30 bytes of a zip header
