"""Names of jobs that people can say, type and remember: "calm-heron-3f2a"."""

import random

_ADJECTIVES = (
    "able agile amber brave bright brisk calm candid clear clever cosy crisp deft eager early "
    "fair fleet fond frank fresh gentle glad golden grand happy hardy honest jolly keen kind "
    "lively loyal lucid mellow merry mild modest neat nimble noble patient placid plain polite "
    "proud quick quiet rapid ready round royal sage serene sharp shiny silver sleek smart smooth "
    "snug solid steady still sunny swift tidy tranquil true vivid warm wise witty young"
)
_NOUNS = (
    "badger beaver birch bison bittern brook cedar comet condor cougar crane curlew deer dolphin "
    "dove dune eagle egret elm falcon fern finch fjord fox gannet gazelle glacier grove gull hare "
    "harbor hawk hazel heron ibis island jay juniper kestrel kite koala lagoon lark linnet lynx "
    "magpie maple marten meadow moose otter owl panda pebble pelican pine plover puffin quail "
    "raven reef river robin salmon seal shore sparrow spruce stork summit swallow swan tern thrush "
    "tiger trout walrus willow wren"
)
_random = random.SystemRandom()


def new_name() -> str:
    """One of some 350 million names; the caller checks that it is free."""
    adjective, noun = _random.choice(_ADJECTIVES.split()), _random.choice(_NOUNS.split())
    return f"{adjective}-{noun}-{_random.randrange(0x10000):04x}"
