"""Trainings on several threads, each named by what it ends with; started as a script, a scene.

A scene is a training beside something that a test cannot do in its own process: forks, Ctrl-C,
the end of the main thread. It prints what the trainings ended with.

Nothing of symprop is imported but what loads a module: workers start in a moment.
"""

from __future__ import annotations

import faulthandler
import hashlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from symprop.loader import load

EPOCHS = 20
SCENES: dict[str, Callable[[ModuleType], None]] = {}


def kernels(path: Path) -> ModuleType:
    """The module whose text is in a file named after its network."""
    return load(path.read_text(), path.stem)


def data(module: ModuleType) -> list[np.ndarray]:
    """Random inputs and targets, more than a batch and no whole number of registers."""
    random = np.random.default_rng(0)
    return [random.random((101, *shape)) for _, shape, _ in module._DATA.values()]


def digest(state: Any, losses: Any) -> str:
    """A name of all numbers of a training."""
    arrays = [state.theta, state.moments, state.permutation, state.random, losses]
    return hashlib.sha256(b"".join(np.asarray(a).tobytes() for a in arrays)).hexdigest()[:16]


def trained(module: ModuleType, threads: int | None = 2, **options: Any) -> str:
    """Train from the same start on the same data; name what it ends with."""
    start = module.start(module.initialize(0), 1)
    settings = {"epochs": EPOCHS, "batch_size": 40, "threads": threads, **options}
    return digest(*module.resume(start, *data(module), **settings))


def in_worker(path: Path, threads: int | None = 2) -> str:
    """Train in a process that has not loaded the module."""
    return trained(kernels(path), threads)


def chosen(path: Path) -> int:
    """The number of threads that is chosen where a step has work for a hundred."""
    return int(kernels(path)._crew(None, 10**7).threads)


class Endless:
    """A training in a thread of its own, which goes on until the end of the block."""

    def __init__(self, module: ModuleType) -> None:
        self._module = module
        self._begun, self._enough = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._train)
        self._state: Any = None

    def _train(self) -> None:
        start = self._module.start(self._module.initialize(0), 1)
        settings = {"epochs": 10**6, "batch_size": 40, "threads": 2, "callback": self._called}
        self._state, _ = self._module.resume(start, *data(self._module), **settings)

    def _called(self, done: int, losses: np.ndarray) -> bool:
        self._begun.set()
        return self._enough.is_set()

    def __enter__(self) -> Endless:
        self._thread.start()
        self._begun.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self._thread.join()

    def right(self) -> bool:
        """Tell whether as many epochs at once end in the same numbers."""
        module, settings = self._module, {"batch_size": 40, "threads": 2}
        arrays = data(module)
        state, _ = module.resume(self._state, *arrays, epochs=1, **settings)
        start = module.start(module.initialize(0), 1)
        same, _ = module.resume(start, *arrays, epochs=state.epoch, **settings)
        return digest(state, 0) == digest(same, 0) and state.epoch > 1


def left() -> int:
    """How many threads do not end by themselves."""
    others = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
    for thread in others:
        thread.join(10)
    return sum(thread.is_alive() for thread in others)


def scene(play: Callable[[ModuleType], None]) -> Callable[[ModuleType], None]:
    SCENES[play.__name__] = play
    return play


def child(work: Callable[[], str]) -> str:
    """Fork, work in the child, and return what it found."""
    read, write = os.pipe()
    process = os.fork()
    if process == 0:
        try:
            os.write(write, work().encode())
        finally:
            os._exit(0)
    os.close(write)
    found = os.read(read, 100).decode()
    os.close(read)
    os.waitpid(process, 0)
    return found


@scene
def forked_after(module: ModuleType) -> None:
    """Children by os.fork and by multiprocessing, after a training in the parent."""
    print(trained(module))
    print("threads left:", left())
    print(child(lambda: trained(module)))
    context = multiprocessing.get_context("fork")
    found = context.SimpleQueue()
    processes = [context.Process(target=lambda: found.put(trained(module))) for _ in range(2)]
    for process in processes:
        process.start()
    print(*(found.get() for _ in processes), sep="\n")
    for process in processes:
        process.join()


@scene
def forked_during(module: ModuleType) -> None:
    """A child that is made in the middle of a training of another thread."""
    with Endless(module) as other:
        print(child(lambda: trained(module)))
        print(child(lambda: trained(module)))
    print("undisturbed:", other.right())


@scene
def forked_in_callback(module: ModuleType) -> None:
    """Parent and child both go on with the training that was begun in the parent."""
    children = []

    def callback(done: int, losses: np.ndarray) -> bool:
        if not children:
            children.append(os.fork())
        return False

    found = trained(module, callback=callback)
    if children == [0]:
        print(found, flush=True)
        os._exit(0)
    os.waitpid(children[0], 0)
    print(found)


@scene
def interrupted(module: ModuleType) -> None:
    """Ctrl-C in the middle of compiled code, whatever it is about to return."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    given, long = module.initialize(0), [np.repeat(array, 1000, 0) for array in data(module)]
    works: dict[str, Callable[..., Any]] = {
        "one thread": lambda epochs=10**6: trained(module, 1, epochs=epochs),
        "two threads": lambda epochs=10**6: trained(module, 2, epochs=epochs),
        "backward": lambda epochs=0: module.backward(given, *long),
    }
    for name, work in works.items():
        work(epochs=1)  # compiled
        pressed = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
        pressed.start()
        try:
            while True:
                work()
        except KeyboardInterrupt:
            print(name)
    pressed.join()
    print("threads left:", left())
    print(trained(module))


@scene
def outlives_main(module: ModuleType) -> None:
    """A training that goes on when the main thread has ended."""
    main = threading.main_thread()

    def callback(done: int, losses: np.ndarray) -> bool:
        main.join()
        return False

    threading.Thread(target=lambda: print(trained(module, callback=callback))).start()


@scene
def one_processor(module: ModuleType) -> None:
    """Two threads and five where one processor may be used."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    print(trained(module))
    print("the same:", trained(module, 5) == trained(module, 5))
    print("chosen:", module._crew(None, 10**7).threads)


@scene
def waits(module: ModuleType) -> None:
    """A thread waits for one that failed: the end that the other scenes must not have."""
    module._ALL = 0
    faulthandler.dump_traceback_later(2, exit=True)
    advance = module._advance
    module._advance = lambda *given: advance(*given) if given[-1] else 1 // 0
    trained(module)


if __name__ == "__main__":
    name, text = sys.argv[1:]
    SCENES[name](kernels(Path(text)))
