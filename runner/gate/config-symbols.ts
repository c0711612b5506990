/** Symbols that are set in one .config and not in another. Pure. */
export function lostSymbols(parent: string, child: string): readonly string[] {
  const there = symbolsOf(child);
  return [...symbolsOf(parent)].filter((symbol) => !there.has(symbol)).toSorted();
}

function symbolsOf(config: string): ReadonlySet<string> {
  return new Set([...config.matchAll(/^CONFIG_(\w+)=/gm)].map(([, symbol = '']) => symbol));
}
