"""A forked child computes, before and after the parent's first use, and while others compute."""

import pytest
from common import needs_c
from shared_look_up import output_of, status_of_c

pytestmark = needs_c


@pytest.mark.fork
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
@pytest.mark.parametrize("first_use", ["child", "parent"])
def test_a_forked_child_computes(first_use):
    script = f"""
import multiprocessing
from shared_look_up import a_look_up, in_child
if {first_use!r} == "parent":
    assert a_look_up(4)
context = multiprocessing.get_context("fork")
queue = context.Queue()
children = [context.Process(target=in_child, args=(4, queue)) for _ in range(3)]
[child.start() for child in children]
print([queue.get(timeout=600) for _ in children], a_look_up(4))
[child.join(600) for child in children]
"""
    assert output_of(script) == "[True, True, True] True\n"


@pytest.mark.fork
@pytest.mark.fork_beside_threads
def test_a_fork_while_other_threads_compute():
    script = """
import os, threading, time
from shared_look_up import a_look_up
stop = threading.Event()
def work():
    while not stop.is_set():
        assert a_look_up(4)
threads = [threading.Thread(target=work, daemon=True) for _ in range(3)]
[t.start() for t in threads]
for _ in range(10):
    time.sleep(0.02)
    pid = os.fork()
    if pid == 0:
        os._exit(0 if a_look_up(4) else 1)
    assert os.waitpid(pid, 0)[1] == 0
stop.set()
[t.join() for t in threads]
print("done")
"""
    assert output_of(script, "-W", "ignore") == "done\n"


@pytest.mark.fork
def test_a_fork_while_another_thread_of_a_pool_without_workers_has_its_lock(tmp_path):
    """The moment is short, once in some hundred forks: here the C takes the lock for it."""
    program = r"""
#include "pool.c"
#include <sys/wait.h>
int main(void)
{
    fe_lock(&lock);
    const pid_t child = fork();
    if (child == 0) {
        alarm(60); /* what is locked for ever ends by this signal */
        _exit(fe_get_num_threads());
    }
    int status = -1;
    waitpid(child, &status, 0);
    return status != 1 << 8;
}
"""
    assert status_of_c(program, tmp_path) == 0
