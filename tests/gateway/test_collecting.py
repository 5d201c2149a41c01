"""Garbage: large requests are never looked through, and nothing is left for ever."""

import subprocess
import sys
import textwrap


def run_alone(script: str) -> str:
    """Run in a process of its own: what it does is done to the whole process."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_no_look_for_garbage_goes_through_what_a_large_request_made():
    said = run_alone(
        """
        import gc
        from turnout.gateway.collecting import manage, uncollected

        manage()
        looks = []
        gc.callbacks.append(lambda phase, about: looks.append(gc.get_count()))
        with uncollected():
            with uncollected():
                large = [[n] for n in range(200_000)]
            assert not gc.isenabled()
        assert gc.isenabled() and not looks
        assert len(gc.get_objects()) < 1_000, len(gc.get_objects())
        print("done")
        """
    )
    assert said == "done\n"


def test_garbage_of_that_time_goes_when_all_is_looked_through():
    said = run_alone(
        """
        import gc, weakref
        from turnout.gateway.collecting import collect, manage, uncollected

        class Circle:
            def __init__(self):
                self.itself = self

        manage()
        circle = Circle()
        gone = weakref.ref(circle)
        with uncollected():
            del circle
            collect()
        gc.collect()
        assert gone() is not None
        collect()
        print(gone())
        """
    )
    assert said == "None\n"


def test_a_process_that_does_more_than_serve_keeps_its_own_ways():
    said = run_alone(
        """
        import gc
        from turnout.gateway.collecting import uncollected

        with uncollected():
            assert gc.isenabled()
        print(gc.get_freeze_count())
        """
    )
    assert said == "0\n"
