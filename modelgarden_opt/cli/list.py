"""stub"""
def add_flags(p): pass
def run(a): pass
