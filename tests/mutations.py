"""Damages the bytes of a file, for the readers to be tried on."""


def mutate(data, source):
    """Change, cut out, put in or repeat some bytes."""
    data = bytearray(data)
    for _ in range(source.choice([1, 1, 1, 2, 5])):
        at = source.randrange(len(data))
        how = source.randrange(5)
        if how == 0:
            data[at] ^= 1 << source.randrange(8)
        elif how == 1:
            data[at] = source.choice([0, 1, 127, 128, 255])
        elif how == 2:
            del data[at : at + source.choice([1, 4, 100])]
        elif how == 3:
            data[at:at] = bytes(source.randrange(256) for _ in range(4))
        else:
            data[at:at] = data[at : at + 40]
        if not data:
            break
    return bytes(data)
