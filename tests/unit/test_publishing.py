"""Links and generations of two epochs: whatever moment a crash comes, each epoch is answered from its own index."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from matching.keys import FieldKeys
from matching.schema import PERSON_SCHEMA
from node.errors import BusyError
from node.generation import Generations
from node.home import NodeHome
from node.importer import import_registry
from node.mapping import guess_mapping
from node.publishing import has_epochs_beside, import_lock, promote, published, remove_epochs
from node.sources import open_source
from tests.registries import NOW, PEOPLE, csv_text

if TYPE_CHECKING:
    from pathlib import Path

KEYS = {epoch: FieldKeys.derive(bytes(range(epoch, epoch + 32)), PERSON_SCHEMA, epoch) for epoch in (1, 2, 3)}


@pytest.fixture
def home(tmp_path: Path) -> NodeHome:
    (tmp_path / "node").mkdir()
    for persons in (2, 3, 4):
        (tmp_path / f"{persons}.csv").write_text(csv_text(PEOPLE[:persons]))
    return NodeHome(tmp_path / "node")


def load(home: NodeHome, persons: int, epoch: int) -> None:
    with open_source(str(home.root.parent / f"{persons}.csv")) as source:
        import_registry(home, KEYS[epoch], source, guess_mapping(source.columns), NOW, max_rejects=1.0)


def sizes(home: NodeHome, *epochs: int) -> dict[int, int]:
    """Persons in each epoch's index, as a serving node would open them."""
    generations = Generations(home, lambda: {epoch: KEYS[epoch] for epoch in epochs})
    generations.open()
    try:
        found = {}
        for epoch in epochs:
            with generations.lease(epoch) as generation:
                if generation is not None:
                    found[epoch] = generation.index.size
        return found
    finally:
        generations.close()


def links(home: NodeHome) -> dict[str, str]:
    return {path.name: path.readlink().name for path in home.generations.iterdir() if path.is_symlink()}


def test_each_epoch_keeps_its_link_and_the_generation_before(home: NodeHome) -> None:
    load(home, 2, 1)
    load(home, 3, 2)
    assert links(home) == {"current": "g000001", "current-e2": "g000002"}
    load(home, 4, 1)
    load(home, 4, 1)
    assert links(home) == {"current": "g000004", "current-e2": "g000002"}
    folders = sorted(path.name for path in home.generations.iterdir() if not path.is_symlink())
    assert folders == ["g000002", "g000003", "g000004"]
    assert sizes(home, 1, 2) == {1: 4, 2: 3}


def test_an_index_is_never_opened_under_another_epochs_keys(home: NodeHome) -> None:
    load(home, 2, 1)
    load(home, 3, 2)
    # Somebody swaps the links: what an index is of stands in its manifest.
    home.current.unlink()
    home.current.symlink_to("g000002")
    home.current_of(2).unlink()
    home.current_of(2).symlink_to("g000001")
    assert sizes(home, 1, 2) == {1: 2, 2: 3}


def test_killed_between_any_two_links_a_promotion_changes_no_answer(
    home: NodeHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(home, 2, 1)
    load(home, 3, 2)

    class DiesError(Exception):
        pass

    for survived in (0, 1, 0):  # each time, one step further
        left = survived

        def sync(_: Path) -> None:
            nonlocal left
            if left == 0:
                raise DiesError
            left -= 1

        with monkeypatch.context() as patched:
            patched.setattr("node.publishing.sync_folder", sync)
            with pytest.raises(DiesError):
                promote(home, 2)
        assert sizes(home, 1, 2) == {1: 2, 2: 3}, survived
    assert not promote(home, 2)
    assert links(home) == {"current": "g000002", "current-e1": "g000001"}
    assert sizes(home, 1, 2) == {1: 2, 2: 3}


def test_an_epoch_that_is_over_leaves_nothing(home: NodeHome) -> None:
    load(home, 2, 1)
    load(home, 2, 1)
    load(home, 3, 2)
    promote(home, 2)
    assert remove_epochs(home, {2}) == ("g000001", "g000002")
    assert sorted(path.name for path in home.generations.iterdir()) == ["current", "g000003"]
    assert remove_epochs(home, {2}) == ()
    assert sizes(home, 2) == {2: 3}


def test_an_open_index_goes_on_answering_while_its_epoch_ends(home: NodeHome) -> None:
    load(home, 2, 1)
    load(home, 3, 2)
    keys = dict(KEYS)
    generations = Generations(home, lambda: keys)
    generations.open()
    with generations.lease(1) as generation:
        assert generation is not None
        del keys[1], keys[3]
        promote(home, 2)
        remove_epochs(home, {2})
        generations.refresh()
        assert [generation.index.record_id(row) for row in range(2)] == ["0001", "0002"]
        with generations.lease(1) as over:
            assert over is None
    assert generations.epochs == {2}
    generations.close()


def test_a_damaged_manifest_is_no_reason_to_remove_anything(home: NodeHome) -> None:
    load(home, 2, 1)
    load(home, 3, 2)
    (home.generations / "g000001" / "manifest.json").write_text("{")
    assert remove_epochs(home, {2}) == ()
    assert set(published(home)) == {2}


def test_what_is_linked_under_an_ended_epoch_goes_even_where_it_cannot_be_read(home: NodeHome) -> None:
    load(home, 2, 1)
    load(home, 3, 2)
    promote(home, 2)
    (home.generations / "g000001" / "manifest.json").write_text("{")
    assert has_epochs_beside(home, {2})
    assert remove_epochs(home, {2}) == ("g000001",)
    assert links(home) == {"current": "g000002"}


def test_two_cannot_hold_the_lock_of_imports(home: NodeHome) -> None:
    with import_lock(home), pytest.raises(BusyError), import_lock(home):
        pass
