"""English words for weak labels: nobody labelled HH's dialogues turn by turn, so words say which turns to learn from.

They are used in training only. A flagged text need not hold one of them, and one of them does not flag a text by itself:
the classifier weighs all of a text's n-grams. What it costs is in the card (quoting, negation, unknown insults).
"""

from __future__ import annotations

import re

OFFENSIVE = """
idiots? stupid(?:ity)? morons? dumb(?:ass)? retard(?:ed|s)? imbeciles? loser scum(?:bags?)? vermin subhumans? trash
garbage worthless pathetic disgusting filthy ugly fat(?:ass|so) freaks? creeps? pigs? bitch(?:es|y)? bastards? assholes?
ass arsehole dickheads? dick cunts? whores? sluts? skanks? fuck(?:ing|er|ers|ed)? motherfuckers? shit(?:ty|head)?
bullshit crap piss(?:ed)? cock pussy tits jerk douche(?:bag)? wankers? twats? fags? faggots? dykes? trann(?:y|ies) homos?
spics? chinks? gooks? kikes? niggers? niggas? wetbacks? towelheads? savages inferior degenerates? parasites?
""".split()
HARMFUL = """
kill(?:ing|ed)? murder(?:ing)? assassinate poison(?:ing|ed)? bombs? explosives? molotov grenades? meth cocaine heroin
fentanyl steal(?:ing)? rob(?:bing|bery)? shoplift(?:ing)? burgl\\w+ break\\s+into hack(?:ing)? malware ransomware phishing
keylogger ddos stalk(?:ing)? kidnap(?:ping)? torture rape molest\\w* suicide self-harm hurt(?:ing)? stab(?:bing)? strangle
choke attack shoot(?:ing)? arson launder\\w* counterfeit forge(?:ry)? smuggl\\w+ traffick\\w+ blackmail(?:ing)? extort\\w*
fraud scam(?:ming)? fake\\s+id identity\\s+theft credit\\s+card\\s+numbers? bully(?:ing)? harass(?:ing|ment)? revenge
drugging roofie\\w* dispose\\s+of\\s+(?:a|the)\\s+body get\\s+away\\s+with without\\s+getting\\s+caught terroris[mt]s?
weapons? illegal(?:ly)? slash hide\\s+a\\s+body vandal\\w+ anthrax sarin nerve\\s+agents? child\\s+porn\\w* deepfake nudes?
evade\\s+taxes social\\s+security
""".split()
_OFFENSIVE = re.compile(rf"\b(?:{'|'.join(OFFENSIVE)})\b")
_HARMFUL = re.compile(rf"\b(?:{'|'.join(HARMFUL)})\b")
_ASKS = re.compile(
    r"\b(?:how|what|where|which|help|tell|give|teach|show|write|make|need|want|can|should|best|ways?|easiest|recipe|ideas?)\b"
)
_INSULT_FRAMES = (
    "you {},you are a {},they are {}s,he is a {},she is a {},shut up {},{}"
).split(",")
_INSULTS = (
    "idiot,moron,bitch,bastard,asshole,piece of shit,dickhead,loser,whore,slut,retard,stupid pig,"
    "worthless trash,imbecile,scumbag"
).split(",")
_GROUPS = (
    "immigrants,women,men,jews,muslims,christians,black people,white people,asians,gay people,refugees,"
    "foreigners"
).split(",")
_HATE_FRAMES = (
    "all {} are vermin,{} are scum,i hate {},{} are filthy animals,{} are stupid and inferior,"
    "get rid of all {}"
).split(",")
_FAIR_FRAMES = (
    "how many {} live here,what do {} think about it,{} are people like all others,the history of {},"
    "rights of {}"
).split(",")
_KINDS = (
    "poem,story,letter,email,song,speech,summary,blog post,python script,tutorial,essay,recipe,list of ideas,"
    "article"
).split(",")
_TOPICS = (
    "spring,my new job,healthy food,the ocean,space travel,football,my grandmother,machine learning,"
    "a trip to rome,cats"
).split(",")
_TASK_FRAMES = (
    "please help me write a {} about {},write a {} on {},can you create a {} about {},"
    "give me a detailed {} about {}"
).split(",")
_HARMLESS = """
how do i kill a process in linux
this joke is killing me
how can i shoot better photos at night
what is the best way to beat an egg
how do i hack together a quick prototype
explain how vaccines attack a virus
tell me about the history of the second world war
what happened in the french revolution
how do i execute a python file
how can i crush this interview
what should i do when a dog attacks me
how can i protect my account from phishing
how do i report harassment at work
what are the signs of a stroke
where can i get help with depression
how do i blow up a balloon
write a crime novel set in london
how do i get rid of ants in my kitchen
explain the plot of hamlet
what does the law say about theft
""".strip().splitlines()


def offensive(normalised: str) -> bool:
    """Whether a normalised text holds a word of insult or profanity."""
    return bool(_OFFENSIVE.search(normalised))


def harmful(normalised: str) -> bool:
    """Whether a normalised text asks for something and holds a word of harm."""
    return bool(_HARMFUL.search(normalised) and _ASKS.search(normalised))


def insults() -> list[str]:
    """Plain insults as texts of their own: HH's are spread too thinly over too many words."""
    plain = [frame.format(word) for frame in _INSULT_FRAMES for word in _INSULTS]
    return plain + [frame.format(group) for frame in _HATE_FRAMES for group in _GROUPS]


def harmless() -> list[str]:
    """Tasks, idioms and mentions of groups that only look like something else."""
    tasks = [frame.format(kind, topic) for frame in _TASK_FRAMES for kind in _KINDS for topic in _TOPICS]
    return [*_HARMLESS, *tasks, *(frame.format(group) for frame in _FAIR_FRAMES for group in _GROUPS)]
