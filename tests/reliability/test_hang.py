"""A model that hangs holds up nothing but the images that need it: no process, no query."""

from concurrent.futures import Future

from proof.hang import Hang


def test_a_model_that_hangs_loses_no_image_and_ends_no_process(hung: Future[Hang]) -> None:
    outcome = hung.result()
    assert outcome.calls > 0
    assert (outcome.crashed, outcome.lost, outcome.restarts) == (0, 0, 0)


def test_queries_beside_it_are_answered_or_refused_in_their_time(hung: Future[Hang]) -> None:
    outcome = hung.result()
    assert outcome.queries.keys() >= {200, 503}
    assert outcome.bad_queries == 0
