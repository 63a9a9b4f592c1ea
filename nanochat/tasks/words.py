"""Words to spell when the data brings no ``words.txt``."""

_WORDS = """
able about above across action address afternoon again airport almost alone along already animal answer
apple area arm artist autumn baby balance ball banana bank basket beach beautiful become bed before begin
behind bell better between bicycle bird blanket blossom blue board boat body book bottle bottom bread bridge
bright brother brown bubble building butter button cabbage camera candle carrot castle center certain chair
cherry children circle city class clean clock cloud coffee color common corner cotton country cover cream
creature crystal curtain dance danger daughter december deep desert dinner discover distance doctor dollar
door double dragon dream drive during early earth east easy effort eight electric elephant eleven engine
english enough evening every example eye family famous farmer father feather february fellow field finger
finish fire flower follow food forest forget fountain fresh friend fruit funny garden general gentle giraffe
glass golden grammar grass green ground guitar hammer happy harbor heart heavy hello history holiday honey
horse house hundred hurry idea island january jelly journey jungle kettle kitchen kitten ladder language
laughter leather lemon lesson letter library listen little machine market matter meadow memory message
middle million minute mirror mississippi moment monday money morning mother mountain music narrow nature
needle never night noodle number ocean office orange other oyster paper parrot people pepper perfect picture
pillow planet please pocket potato pretty puzzle question rabbit raspberry record remember ribbon river
rocket school season second secret seven shadow silver simple sister sleep smooth spring square station
story strawberry street sudden summer sunset supper surface table teacher thousand thunder ticket tomorrow
travel tunnel umbrella uncle under valley vanilla village violet water weather wheel whisper window winter
wisdom wonder yellow yesterday zebra
"""
WORDS = tuple(_WORDS.split())
