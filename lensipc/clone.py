"""stub"""

import pickle


def encode(o):
    return pickle.dumps(o, 5)


def decode(b):
    return pickle.loads(b)


def decode_owned(b):
    return pickle.loads(b)


def encode_parts(o, name="value"):
    try:
        return pickle.dumps(o, 5)
    except Exception as e:
        from .errors import DataCloneError

        raise DataCloneError(str(e))


def check_transfer(i):
    pass


def detach(i):
    pass
