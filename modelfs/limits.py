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
LINK_GROUP: Final = 16  # bytes of a link group's id: random, two machines never draw the same
LINK_MAX: Final = 65_000  # names of one file, as ext4
LINKED_NAMES_MAX: Final = 200_000  # names of linked files in one tree, all of which a mount holds: some 200 MB
XATTR_VALUE_MAX: Final = 64 * KiB  # as the kernel's XATTR_SIZE_MAX
XATTR_TOTAL_MAX: Final = 64 * KiB
TREE_PAGE_SINGLE: Final = 2000  # a directory up to this many entries is one page
TREE_PAGE_TARGET: Final = 1024  # expected entries of a page of a larger directory
TREE_PAGE_MAX: Final = 4096

# --- keys
ARGON2_MEMORY: Final = 64 * 1024  # KiB; this and the next two: the second choice of RFC 9106, 0.13 s on 2 shared cores
ARGON2_ITERATIONS: Final = 3
ARGON2_LANES: Final = 4
ARGON2_MEMORY_MIN: Final = 8 * 1024  # KiB; a hostile store must neither weaken …
ARGON2_MEMORY_MAX: Final = 1024 * 1024  # … nor exhaust us: 1 GiB
ARGON2_ITERATIONS_MAX: Final = 64
ARGON2_LANES_MAX: Final = 16
ARGON2_WORK_MAX: Final = 4 * 1024 * 1024  # memory x iterations in KiB over all slots, which are tried in turn: 2.4 s
KEY_SLOTS_MAX: Final = 16  # at the default cost 3 GiB of that
EPOCHS_MAX: Final = 200  # data keys of one store: 13 KiB of format.json
PASSPHRASE_MAX: Final = 4096  # bytes
PASSPHRASE_COMMAND_TIMEOUT: Final = 300.0  # it may ask a person

# --- store access
STORE_CONCURRENCY: Final = 16  # gains beyond 8-16 in flight are small on one machine and cost memory
STORE_CONNECT_TIMEOUT: Final = 5.0
STORE_REQUEST_TIMEOUT: Final = 60.0  # one request of one 8 MiB object on a slow line
STORE_OPEN_TIMEOUT: Final = 12.0  # the first request of a command: "unreachable" is said within 15 s
STORE_ATTEMPTS: Final = 5  # at the first contact, and of a local store, whose disk answers a second time as the first
STORE_ATTEMPTS_REMOTE: Final = 100  # in effect STORE_RETRY_BUDGET: a server that is started anew takes many seconds
STORE_BACKOFF_FIRST: Final = 0.1
STORE_BACKOFF_MAX: Final = 5.0
STORE_RETRY_BUDGET: Final = 60.0  # --store-timeout: time of all attempts of one operation, the last may take as long
STORE_PROBES: Final = 4  # requests on their way that ask whether a store is back
STORE_PROBE_PAUSE: Final = 1.0  # between them
PROBE_WRITERS: Final = 8  # concurrent exclusive creations when a store is opened for writing
LEASE_TTL: Final = 60.0  # --single-writer lease, renewed at a third of it

# --- collection (docs/store-format.md, "Collection", has the argument that these bounds serve)
GC_GRACE_DEFAULT: Final = 24 * 3600.0  # a save that takes longer uploads some of its chunks again
GC_GRACE_MIN: Final = 600.0  # twice what a writer may be behind with the list of condemned objects
GC_STALE: Final = 300.0  # a list of condemned objects, or a head, that is older is asked for again before a commit
GC_GRACE_KNOWN: Final = 1.0  # a shorter one is not made known to writers, who would ask for the list all the time
GC_SKEW: Final = 300.0  # a clock that is further off from the store's is not believed (as kopia)
GC_RUN_TTL: Final = 300.0  # a collection that gave no sign of life for so long is dead
GC_RUN_RENEW: Final = 30.0
GC_SENTENCE_IDS: Final = 8_192  # condemned ids of one object: 256 KiB
GC_SENTENCE_MAX: Final = 1 * MiB  # a larger one is damage
GC_WAIT: Final = 360.0  # a writer waits for the deletion of one sentence (8,192 deletes, 16 at once, at 0.3 s: 150 s),
# or until a run that died in the middle of one is known to be dead
GC_WAIT_POLL: Final = 0.2
GC_ROUNDS: Final = 8  # times that a commit finds something condemned again before it gives up
GC_LEFT_OVER: Final = 24 * 3600.0  # probe objects and ended leases of this age have no owner any more

# --- copying from store to store (sync) and from elsewhere (import)
SYNC_THREADS: Final = 12  # chunks on their way at once: each is held as it is stored and plain, 8 MiB on average
SYNC_PLANNERS: Final = 8  # pairs of commits that are compared at once
SYNC_ASKS: Final = 2_000  # objects asked for one by one before the store is listed: a page has 1,000 names
SYNC_BASES: Final = 16  # chunks that others build on, kept while those are verified: 64 MiB on average
SYNC_ROUNDS: Final = 3  # times that a sync begins anew because a collection took something away from under it
SYNC_PAIRS: Final = 1_000_000  # chunks whose ids in both stores are remembered when objects are written anew: 250 MB
IMPORT_FILES: Final = 4  # files being brought in at once; all share the threads of one upload
IMPORT_BLOCK: Final = 8 * MiB  # of one read from a server …
IMPORT_AHEAD: Final = 2  # … and so many of them are read ahead of a file
IMPORT_SHOWN: Final = 8  # names that were left out, in one message
LINK_OBJECT_MAX: Final = 4224  # bytes of a linked chunk's object: a key of PATH_MAX, an id, four numbers
SOURCE_URL_MAX: Final = 8 * KiB  # characters: a path of PATH_MAX may be percent-encoded
SOURCES_KNOWN: Final = 10_000  # remembered of one store

# --- worker pools of one mount
READ_THREADS: Final = 16
UPLOAD_THREADS: Final = 12  # hash + encode + put, most of it waiting: each holds a plain and an encoded chunk
LOCAL_IO_THREADS: Final = 8
META_THREADS: Final = 8

# --- reading
PREFETCH_STEP: Final = 4 * MiB  # read-ahead is extended by at least this or half the window
PREFETCH_MAX: Final = 64 * MiB
KNOWN_FRESH: Final = 65_536  # chunks fetched ahead that nobody has read in yet, to count them as missed: 10 MB
CHUNK_MEMORY: Final = 96 * MiB  # chunks that came last: a full window, and what is being read
POLLED_READ: Final = (
    64 * KiB
)  # reads of the cache up to this wait for the disk on the loop: NVMe takes 60 us, a hop 200
READ_POLLS: Final = 24  # turns of the loop, some 0.5 ms when it is idle; then the disk is slow and a thread waits
# 128 KiB (the default) makes a 2 GB load 16,384 requests. The kernel reads up to four times this behind the last byte
# that is wanted; twice as much is no faster.
KERNEL_READAHEAD: Final = 1 * MiB
KERNEL_DIRTY_PERCENT: Final = 40  # of the kernel's limit for dirty pages; at the default of 1 writers are throttled
FUSE_MAX_IO: Final = 1 * MiB
PAGE: Final = 4 * KiB  # in which the kernel counts the size of requests, on the architectures that are tested
FUSE_REQUEST_MAX: Final = FUSE_MAX_IO + 4 * KiB  # of one request with its header
FUSE_NAMES_MAX: Final = 16 * KiB  # of the names in one request: two paths of 4 KiB at most
FUSE_READ_BATCH: Final = 16  # requests taken from the kernel before other tasks have their turn
PASSTHROUGH_MIN: Final = 256 * KiB  # smaller files are read in one or two requests: a backing file costs more
PASSTHROUGH_WANTED: Final = 0.5  # of a file must be here before the rest is brought for its next reader
PASSTHROUGH_REMEMBERED: Final = 10_000  # files that were not completed, or evicted since, and are left alone
PASSTHROUGH_JOBS: Final = 1  # files being completed at once
CACHE_DOUBLED_SHARE: Final = 0.25  # of the limit, for chunks that are kept a second time to make a file whole

# --- cache
CACHE_SIZE_DEFAULT: Final = 50 * 10**9
CACHE_DISK_FREE_SHARE: Final = 0.05  # of the disk, left to others
CACHE_MAKE_ROOM: Final = 16 * MiB  # given back at once when a save finds the disk full
CACHE_BALLAST: Final = 1 * MiB  # of its disk that the index may use when nothing else is left
MAKE_ROOM_ROUNDS: Final = 8  # other writers may take the room that was made
CACHE_LOW_WATER: Final = 0.9  # an eviction run frees down to this share of the limit

# --- writing
SYNC_BEHIND: Final = 32 * MiB  # written bytes before the kernel is told to bring them to the disk (write-back)
WRITE_BEHIND: Final = 16 * MiB  # contiguous dirty bytes before chunks are cut behind the write head
COMMIT_DELAY: Final = 0.5  # namespace changes reach the store within a second
COMMIT_REBASES: Final = 64  # lost races in a row before ConflictError
UMOUNT_TIMEOUT: Final = 600.0
DRAIN_TIMEOUT: Final = 60.0  # after SIGTERM; systemd kills after 90 s by default, and what is left stays in the journal
DRAIN_LAST: Final = 1.0  # for what came up while requests were still answered
EXIT_GRACE: Final = 5.0  # for requests to the store that nobody waits for any more
NOTIFY_EVERY: Final = 10.0  # between lines of status for a service manager, and more often if its watchdog is short
NOTIFY_RETRY: Final = 0.1  # a full queue of the manager
HOLDERS_SHOWN: Final = 8  # processes that keep a mount busy, in one message
DEAD_SESSION_WAIT: Final = 30.0  # a killed daemon holds its journal until its last disk write is through
DEAD_SESSION_POLL: Final = 0.01

# --- what the doctor calls good
KERNEL_OLDEST: Final = (5, 4)  # of the oldest distributions that are still cared for
OPEN_FILES_GOOD: Final = 4096  # the usual 1,024 is reached by a few hundred open files and the store's connections
MEMORY_NEEDED: Final = 400_000_000  # of a daemon, as tested with 2 GB files
DISK_LITTLE: Final = 1_000_000_000  # less than this cannot stage a small model
DOCTOR_OBJECTS: Final = 8  # of average chunks, written and read at once: 34 MB, some seconds on 100 Mbit/s
DOCTOR_LATENCY: Final = 0.2  # of a small request; object stores of the same region take 10 to 60 ms
DOCTOR_RATE: Final = 11_000_000  # bytes a second: 10 GB in a quarter of an hour
DOCTOR_SKEW: Final = 5.0

# --- following
REFRESH_DEFAULT: Final = 1.0
KERNEL_CACHE_TIMEOUT: Final = 3600.0  # entries and attributes of history, which does not change
KERNEL_CACHE_SHARE: Final = 0.25  # of the refresh interval, for others; asking the store takes the rest
KERNEL_CACHE_LIVE: Final = 1.0  # and no more than this: what happens on this machine shows so late, too
CUT_JOBS: Final = 4  # windows of 2 x CHUNK_MAX being cut or sent at once in one mount: 64 MiB, 16 average chunks
FINISH_ROUNDS: Final = 100  # a close that races with writers cuts again this often before it gives up
INLINE_WRITE: Final = 64 * KiB  # writes up to this go to the staging file without a thread hop
COMMIT_RETRY: Final = 5.0  # between attempts to commit namespace changes while the store is away
FINISH_JOBS: Final = 8  # closes being finished at once
KEPT_INODE_NUMBERS: Final = 100_000  # numbers of files created here that the kernel forgot: 200 bytes each
PREFETCHES: Final = 16  # chunks being read ahead at once in one mount
PREFETCH_QUEUE: Final = 64  # and waiting for their turn
PREFETCH_STREAMS: Final = 8  # places in which one open file is read in order
LISTING_NODES: Final = 10_000  # nodes made at once when a directory is listed: 0.1 s
LISTING_REPLY: Final = 1_000  # names that fit one answer to readdir, and more
HEAP_BLOCK_MAX: Final = 32 * MiB  # glibc's upper bound for M_MMAP_THRESHOLD on 64-bit; larger blocks stay mmaps
HEAP_KEEP: Final = 128 * MiB  # free heap that is kept instead of given back
HEAP_ARENAS: Final = 2
FUSE_TASKS: Final = 64  # requests handled at once; each holds a 1 MiB request buffer
READY_TIMEOUT: Final = 60.0  # for a mount in the background to answer
CONTROL_TIMEOUT: Final = 5.0
METRICS_TIMEOUT: Final = 2.0  # for one scrape to say what it wants
TOP_WIDTH: Final = 200  # columns of a frame that goes into a file or a pipe
TOP_INTERVAL: Final = 1.0  # between frames of `modelfs top`
UI_ADDRESS: Final = "127.0.0.1:8585"
UI_INTERVAL: Final = 2.0  # between looks at the mounts, each of which costs them what `modelfs status` costs
UI_SAMPLES: Final = 900  # looks that are remembered of one mount: half an hour, 100 KB
UI_MOUNTS: Final = 64  # mounts that are looked at and remembered, those that are gone included
UI_MOUNT_THREADS: Final = 4  # mounts being asked at once
UI_STORES: Final = 16  # stores that are open at once: 32 MiB of metadata each
UI_STORE_THREADS: Final = 4  # requests to one store at once
UI_CACHE_THREADS: Final = 2  # looks at caches at once
UI_CACHE_FRESH: Final = 2.0  # what was seen of a cache answers for so long: pages that reload do not open it each time
UI_TIMEOUT: Final = 10.0  # of a page; what it asked for goes on in its thread, which counts until it ends
UI_STORE_TIMEOUT: Final = 8.0  # of an operation on a store: as --store-timeout of a mount, and before the page gives up
UI_OPEN_AGAIN: Final = (
    5.0  # a store that could not be opened is not tried again sooner: a passphrase costs 0.1 s of CPU
)
UI_NAMES_FRESH: Final = 60.0  # branches and tags, for which the store is listed
UI_NAMES_SHOWN: Final = 200
UI_COMMITS: Final = 25  # of one page of a history
UI_KNOWN_COMMITS: Final = 4096  # remembered of one store: what is before them, and what they brought
UI_KNOWN_COMMIT_MAX: Final = 8 * KiB  # a longer one is read again: messages may have 64 KiB
UI_SAVINGS_TIME: Final = 2.0  # in which a page finds out what commits brought; the rest is for the next one
UI_CHANGES: Final = 1_000  # changed paths of a commit that are looked at
UI_CHANGES_SHOWN: Final = 200
UI_COMPARED_ENTRIES: Final = 5_000  # entries of the commit before that are looked at for …
UI_COMPARED: Final = 256  # … the newest files, whose chunks a commit did not bring
UI_CHUNKS: Final = 200_000  # chunks of one commit: 800 GB
UI_CHUNK_SIZES: Final = 131_072  # stored sizes that are remembered of one store: 512 GB, 20 MB here
UI_SIZES_BATCH: Final = 16  # chunks whose size is asked for before the time is looked at
UI_ENTRIES: Final = 100  # of one page of a directory
UI_FILES: Final = 25  # of one page of a cache
UI_TENSORS: Final = 100  # of one page of a file
UI_CELLS: Final = 256  # parts of a picture of a file
UI_END: Final = 2.0  # for answers that are on their way when the page ends
CACHE_FLUSH_ROWS: Final = 64  # chunks written to the cache before their index rows are committed together
CACHE_FLUSH_SHARE: Final = 1 / 128  # of the limit: rows for more bytes than this are committed at once
CACHE_BUSY_TIMEOUT: Final = 10.0  # waiting for another process's index transaction, which takes milliseconds
CACHE_VERIFY_BUFFERS: Final = 4  # chunks being checked at once: 32 MiB at most; each hashes at 4.6 GB/s
CACHE_BORROW_FILES: Final = 64  # other cache files one reader keeps open: file descriptors are 1,024 by default
CACHE_EVICT_RETRY: Final = 5.0  # a full cache with nothing to evict is not scanned again sooner than this
CACHE_MARKER_MAX: Final = 4 * KiB  # of the file that says whose cache it is: an id and a word
CACHE_EVICT_BATCH: Final = 64  # eviction candidates read from the index at once
CACHE_NAMES: Final = 8  # paths remembered of one cached file: it may have many, and people read them
CACHE_FETCH_WAIT: Final = 5.0  # for another process that fetches the same chunk; it may be stopped
CACHE_FETCH_POLL: Final = 0.02
CACHE_SETTLE: Final = 1.0  # until other processes see what a mount put into the cache, and its hits and misses
WARM_THREADS: Final = READ_THREADS  # as a mount that reads ahead
WARM_FAILURES_SHOWN: Final = 8
MAP_WIDTH: Final = 64  # cells of a line of `cache map`, which is as wide as 80 columns with offsets
MAP_LINES: Final = 16
MAP_TENSORS_SHOWN: Final = 50  # without --json
CACHE_LOOKUP_BATCH: Final = 500  # chunk ids in one query: the oldest SQLite takes 999 parameters

# --- what a hostile store can make us hold, continued (repository)
CHUNK_LENGTH_MAX: Final = 32 * MiB  # of any chunk a manifest may declare; stores may choose chunking up to this
MANIFEST_CHUNKS_MAX: Final = 1_600_000  # 6 TiB at the average size: 60 MiB encoded
XATTR_NAME_MAX: Final = 255  # as Linux
TREE_PAGE_BYTES: Final = 1 * MiB  # a page ends here even with few entries: inline files and xattrs make them heavy
TREE_INDEX_LEVELS: Final = 8  # 1024 ** 3 entries need three
COMMIT_TEXT_MAX: Final = 64 * KiB  # characters of message, host or user
FORMAT_OBJECT_MAX: Final = 64 * KiB  # format.json is some 300 bytes
CONFIG_FILE_MAX: Final = 64 * KiB  # every option with comments is some 3 KiB
META_MEMORY: Final = 32 * MiB  # decoded tree pages and manifests kept by one repository
META_MEMORY_FACTOR: Final = 4  # decoded, per msgpack byte: manifests 3.4, pages of files 4.3, tiny entries 10
META_FLUSH: Final = 16 * MiB  # encoded tree pages gathered before they are written META_THREADS at a time
FSCK_HOLES_MAX: Final = 100_000  # missing numbers of a branch that are looked at one by one
FSCK_BASES: Final = 24  # chunks that others build on, kept while those are checked: 100 MB, above what is in flight
FSCK_SHOWN: Final = 20  # damaged objects, and paths of each, that are printed without --json
SCRUB_THREADS: Final = 2  # chunks being read at once: a scrub is in no hurry
SCRUB_SAVE: Final = 5.0  # between writes of where a scrub stands
KNOWN_IDS: Final = 262_144  # objects remembered as present: 1 TiB of average chunks in 40 MiB of memory
BAD_IDS: Final = 65_536  # objects remembered as damaged or missing; beyond it nothing is deduplicated on hearsay
ID_SET_RECENT: Final = 65_536  # ids of an `IdSet` that wait to be sorted in: 6 MB
RECENT_COMMITS: Final = 256  # commit records kept to verify parents without asking again
COMMIT_PROBES: Final = 32  # newer commits looked for one by one before the branch is listed
COMMIT_PREFIX_MIN: Final = 8  # hex digits that name a commit
REFS_SHOWN: Final = 8  # names listed by "no such branch"
JOURNAL_RECORD_MAX: Final = 64 * MiB  # a longer frame is damage
JOURNAL_REWRITE: Final = 1 * MiB  # a log above this is rewritten after a commit
JOURNAL_RESERVE: Final = 64 * KiB  # of disk for records to come: a thousand names can be removed on a full one
JOURNAL_DEPTH: Final = 6  # directories that are synced for a new journal: it, branch, store, journal, modelfs, state
JOURNAL_TORN_MAX: Final = 64 * MiB  # of a damaged log kept aside and searched for later records
PROBE_ROUNDS: Final = 3  # a server that lets two writers win does so in most rounds
SQL_CONNECTIONS: Final = 8  # of one process: PostgreSQL lets 100 in by default
SQL_PART: Final = 7 * MiB + 512 * KiB  # bytes of an object in one row: escaped to twice that, it fits …
SQL_STATEMENT: Final = 16 * MiB  # … what MariaDB takes by default (max_allowed_packet)
SQL_STATEMENT_REST: Final = 4 * KiB  # of a statement, beside the data
SQL_PAGE: Final = 1000  # rows of a listing at once
SQL_WATCH: Final = 1.0  # between looks for connections that got no answer
WEBDAV_CLAIM: Final = 30.0  # a claim to create an object this old has no owner: it is held for one MOVE
WEBDAV_CLAIM_POLL: Final = 0.05
FILESYSTEM_PIECE: Final = 16 * MiB  # of a large read or write through fsspec that goes to the loop at once: four chunks
FILESYSTEM_BUFFER: Final = 256 * KiB  # of an open file: a call to the loop and back takes 0.1 ms
FILESYSTEM_RANGES: Final = 32  # of one `cat_ranges` read at once
FILESYSTEM_WATCH: Final = 5.0  # between looks of who waits for the loop whether it is still there
FORK_PATIENCE: Final = 1.0  # for transactions of the cache's index, which take milliseconds
SYMLINKS_MAX: Final = 40  # followed in one path, as Linux
STALE_RETRIES: Final = 8  # a path is looked up again when another mount replaces what was found
FSSPEC_CONNECTIONS: Final = 8  # OpenSSH answers at most 10 new logins at once by default
LOCAL_TEMPORARY_AGE: Final = 24 * 3600.0  # a temporary file of a local store this old has no writer any more
TENSOR_TABLE_MAX: Final = 200_000  # tensors of one file that the store remembers: 12 MB of metadata
LAYOUT_SPANS_MAX: Final = 1_000_000  # tensors of one file
LAYOUT_READS_MAX: Final = 200_000  # requests of one parser: a file may describe itself in circles
LAYOUT_BYTES_MAX: Final = 128 * MiB  # bytes that one parser may look at
LAYOUT_STEPS_MAX: Final = 2_000_000  # looks at the file by one parser: a GGUF with 256,000 tokens takes 600,000; 10 s
LAYOUT_NAMES_MAX: Final = 32 * MiB  # characters of all names of one file: 200,000 tensors have 10 million
LAYOUT_SIDES_MAX: Final = 64  # dimensions of one tensor, as the store's tables have room for
LAYOUT_READ_AHEAD: Final = 16 * KiB
LAYOUT_TOLD_EVERY: Final = 4 * MiB  # a growing archive tells what it knows after so many bytes
PICKLE_OPS_MAX: Final = 5_000_000  # of all pickles in one archive
PICKLE_FIRST_READ: Final = 64 * KiB
PICKLE_SIZE_MAX: Final = 32 * MiB
ZIP_SEARCH: Final = 4 * KiB  # members without a size in front that are no tensors are shorter than this
SAFETENSORS_HEADER_MAX: Final = 32 * MiB  # 250,000 tensors; the format itself allows 100 MB
MODEL_FILES_MAX: Final = 10_000  # of one model
MODEL_INDEX_MAX: Final = 32 * MiB  # that says which tensor is in which of them: as a header of safetensors
MODEL_THREADS: Final = 8  # chunks read at once for checksums: 64 MiB, plain and encoded
CACHE_VERIFIED_FILES: Final = 1024  # closed cache files whose verified chunks are remembered: 20 KiB for 2 GB each
SSH_KEEPALIVE: Final = 30  # between signs of life on an SSH connection
STAT_BLOCK: Final = 128 * KiB  # st_blksize: Python's open() buffers that much, also to read 30 bytes of a zip header
