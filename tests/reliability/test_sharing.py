"""Apps that share an account, a queue and a container take nothing from each other, nor do their audits."""

from concurrent.futures import Future

from proof.sharing import Sharing


def test_two_apps_keep_all_that_is_theirs_over_two_nights(shared: Future[Sharing]) -> None:
    outcome = shared.result()
    assert outcome.requested > 0
    assert (outcome.lost, outcome.stolen, outcome.removed) == (0, 0, 0)
