"""The history of a store as a whole: every commit of every branch, the chain they form, and the tags.

`survey_history` reads all of it and says what is wrong; nothing stops it. A chain is broken where a commit does not
name the one before it as its parent. Which of the two is to blame is told by a second store when there is one, by
tags, and by their other neighbours; where nothing tells, both are named. Who trusts certain keys is told of commits
that none of them vouches for. Where what may have vouched for them was collected that is no damage, and no trust
either: they are counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from modelfs import limits
from modelfs.errors import CorruptError, NotFoundError
from modelfs.repository.damage import Damage, Damages, Problem, Sort, problem_of
from modelfs.repository.gcformat import Collected
from modelfs.repository.keys import COMMITS, commit_key, meta_key, parse_commit_key, tag_key
from modelfs.repository.objects import EMPTY_TREE, CommitRecord, Tag
from modelfs.repository.repository import Repository

Place = tuple[str, int]  # branch and number of a commit
# Id of the commit that another store has there; None when it has none.
Witness = Callable[[Place], bytes | None]


class History:
    """What was read. ``commits`` are those that nothing speaks against, in order of branch and number; ``unvouched``
    of them no trusted key vouches for any more, because the commits between were collected."""

    def __init__(self) -> None:
        self.commits: dict[Place, CommitRecord] = {}
        self.tags: dict[str, Tag] = {}
        self.unvouched: set[Place] = set()

    def expected(self, place: Place) -> set[bytes]:
        """Ids that the commit at ``place`` has according to the commit after it and to tags."""
        after = self.commits.get((place[0], place[1] + 1))
        said = {tag.commit for tag in self.tags.values() if (tag.branch, tag.number) == place}
        return said | ({after.commit.parent} if after is not None else set())


def survey_history(repo: Repository, damages: Damages, witness: Witness | None = None) -> History:
    """Every commit and tag. Errors other than damage are raised."""
    history = History()
    for name in repo.tags():
        try:
            history.tags[name] = repo.read_tag(name)
        except (NotFoundError, CorruptError) as error:
            damages.add(Damage(Sort.TAG, tag_key(name), problem_of(error), str(error)))
    numbers: dict[str, set[int]] = {}
    for info in repo.store.list(COMMITS):
        if (place := parse_commit_key(info.key)) is not None:
            numbers.setdefault(place[0], set()).add(place[1])
    tagged = [(tag.branch, tag.number) for tag in history.tags.values()]
    for branch in sorted({*numbers, *(branch for branch, _ in tagged)}):
        there = numbers.get(branch, set())
        wanted = there | {number for other, number in tagged if other == branch}
        _read_branch(repo, branch, there, wanted, history, damages)
    _check_chains(repo, history, damages, witness)
    _check_tags(repo, history, damages)
    history.commits = dict(sorted(history.commits.items()))
    return history


def _read_branch(
    repo: Repository, branch: str, there: set[int], wanted: set[int], history: History, damages: Damages
) -> None:
    """Read the commits that are ``there``; those between them that were not collected, and those that tags name, must
    be there too."""
    if there:
        first, last = min(there), max(there)
        ranges = [(max(a, first), min(b, last)) for a, b in repo.collected(branch).ranges if a <= last and b >= first]
        gone = sum(max(0, b - a + 1) - sum(a <= number <= b for number in there) for a, b in ranges)
        holes = last - first + 1 - len(there) - gone
        if holes > limits.FSCK_HOLES_MAX:
            key = commit_key(branch, max(there))
            reason = f"{holes} commits before it are missing in {repo.store.url}"
            damages.add(Damage(Sort.COMMIT, key, Problem.CONTRADICTORY, reason))
        else:
            at = first
            for a, b in [*ranges, (last, last)]:
                wanted = wanted | set(range(at, a))
                at = max(at, b + 1)

    def load(number: int) -> CommitRecord | NotFoundError | CorruptError:
        try:
            return repo.load_commit(branch, number)
        except (NotFoundError, CorruptError) as error:
            return error

    with ThreadPoolExecutor(limits.STORE_CONCURRENCY, "fsck") as pool:
        for number, found in zip(sorted(wanted), pool.map(load, sorted(wanted)), strict=True):
            if isinstance(found, CommitRecord):
                history.commits[branch, number] = found
                continue
            if isinstance(found, NotFoundError) and number in repo.collected(branch):
                continue  # while we looked
            key = commit_key(branch, number)
            missing = f"commit {branch}@{number} is missing in {repo.store.url}"
            reason = missing if isinstance(found, NotFoundError) else str(found)
            damages.add(Damage(Sort.COMMIT, key, problem_of(found), reason))


def _check_chains(repo: Repository, history: History, damages: Damages, witness: Witness | None) -> None:
    """Find the commits that do not fit their neighbours."""
    commits = history.commits
    broken = [
        place
        for place, record in commits.items()
        if (before := commits.get((place[0], place[1] - 1))) is not None and record.commit.parent != before.id
    ]
    wrong: dict[Place, str] = {}
    for branch, number in broken:
        reason = f"commit {branch}@{number} in {repo.store.url} does not follow {branch}@{number - 1}"
        for place in _blamed(repo, history, (branch, number), set(broken), witness):
            wrong[place] = reason
    if witness is not None:
        for place, record in commits.items():
            if (place[0], place[1] + 1) not in commits and _is_impostor(repo, record, witness):
                wrong[place] = (
                    f"commit {place[0]}@{place[1]} in {repo.store.url} names a directory that never was there"
                )
    for place, record in _untrusted(repo, history):
        what = "is signed by a key that is not trusted" if record.signed_by else "is not signed"
        wrong.setdefault(place, f"commit {place[0]}@{place[1]} in {repo.store.url} {what}")
    for place, reason in wrong.items():
        damages.add(Damage(Sort.COMMIT, commit_key(*place), Problem.CONTRADICTORY, reason))
        del commits[place]


def _blamed(
    repo: Repository, history: History, place: Place, broken: set[Place], witness: Witness | None
) -> list[Place]:
    """Which of two commits that do not fit is not what it was: ``place``, the one before it, or one of both."""
    branch, number = place
    pair = [(branch, number - 1), place]
    if witness is not None:
        differing = [p for p in pair if witness(p) not in (None, history.commits[p].id)]
        if differing:
            return differing
    tagged = {(tag.branch, tag.number): tag.commit for tag in history.tags.values()}
    sound = [p for p in pair if tagged.get(p) == history.commits[p].id]
    if len(sound) == 1:
        return [p for p in pair if p not in sound]
    if (branch, number + 1) in broken:
        return [place]
    # A commit that was changed does not fit the one after it, and fits the one before unless it names another parent.
    if pair[0] in broken or (branch, number + 1) in history.commits:
        return [pair[0]]
    rootless = [p for p in pair if not _has_root(repo, history.commits[p])]
    return rootless if len(rootless) == 1 else pair


def _untrusted(repo: Repository, history: History) -> Iterator[tuple[Place, CommitRecord]]:
    """Commits that no trusted key has signed, nor one that follows in the chain, and that no gap excuses. The others
    without a voucher go to ``history.unvouched``."""
    vouched: dict[Place, bytes] = {}  # ids that the commits after them vouch for
    doubtful: dict[Place, bytes] = {}  # the same of commits that nothing vouches for and a gap excuses
    collected: dict[str, Collected] = {}
    below: dict[str, Place] = {}  # by branch: the newest place whose commit a gap may have cut off from what is sound
    for place, record in sorted(history.commits.items(), reverse=True):
        branch, number = place
        before = (branch, number - 1)
        if branch not in collected:
            collected[branch] = repo.collected(branch)
        if repo.trusts(record) or vouched.get(place) == record.id:
            vouched[before] = record.commit.parent
        elif below.get(branch) == place or doubtful.get(place) == record.id:
            doubtful[before] = record.commit.parent
            history.unvouched.add(place)
        else:
            yield place, record
            continue
        gap = collected[branch].below(number - 1)
        if gap != number - 1:
            below[branch] = (branch, gap)


def _is_impostor(repo: Repository, record: CommitRecord, witness: Witness) -> bool:
    """True for a newest commit that a copy of the store knows otherwise, and whose directory is not there. One flipped
    bit makes that of a commit, and nothing in the store itself tells."""
    said = witness((record.branch, record.number))
    return said is not None and said != record.id and not _has_root(repo, record)


def _has_root(repo: Repository, record: CommitRecord) -> bool:
    tree = record.commit.root.content
    return tree == EMPTY_TREE or repo.store.size(meta_key(tree)) is not None


def _check_tags(repo: Repository, history: History, damages: Damages) -> None:
    """A tag must name the commit that is there; when that one is missing or damaged, it is the commit's damage."""
    for name, tag in list(history.tags.items()):
        record = history.commits.get((tag.branch, tag.number))
        if record is not None and record.id != tag.commit:
            reason = f"tag {name} in {repo.store.url} names another commit than {tag.branch}@{tag.number} is"
            damages.add(Damage(Sort.TAG, tag_key(name), Problem.CONTRADICTORY, reason))
            del history.tags[name]
