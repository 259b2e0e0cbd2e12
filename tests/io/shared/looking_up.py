"""What another process does with a shared table; in a module that it can import by its name."""


def look_up(table, end):
    end.send(float(table([7]).sum()))
    end.recv()
    end.send(float(table([7]).sum()))
