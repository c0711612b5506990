export interface ShrinkRequest<T> {
  /** Whether this part of the sequence still shows what the whole shows. */
  readonly fails: (items: readonly T[]) => Promise<boolean>;
  /** Simpler versions of an item, the simplest first. */
  readonly simpler?: ((item: T) => readonly T[]) | undefined;
  /** How many times `fails` may be asked. */
  readonly tries: number;
}

/**
 * A shorter sequence that fails as well: halves, quarters and so on are left out for as long as the rest
 * fails, then single items are made simpler (Zeller's delta debugging).
 */
export async function shrink<T>(items: readonly T[], request: ShrinkRequest<T>): Promise<readonly T[]> {
  let left = request.tries;
  const fails = async (candidate: readonly T[]): Promise<boolean> => {
    if (left <= 0) return false;
    left -= 1;
    return request.fails(candidate);
  };
  const shorter = await withoutChunks(items, fails);
  return simplified(shorter, fails, request.simpler ?? (() => []));
}

type Fails<T> = (items: readonly T[]) => Promise<boolean>;

async function withoutChunks<T>(items: readonly T[], fails: Fails<T>): Promise<readonly T[]> {
  let kept = items;
  let chunk = Math.ceil(kept.length / 2);
  while (chunk >= 1 && kept.length > 1) {
    const shorter = await withoutOneChunk(kept, chunk, fails);
    if (shorter !== undefined) kept = shorter;
    else if (chunk === 1) return kept;
    else chunk = Math.ceil(chunk / 2);
  }
  return kept;
}

/** From the end: what comes after the failure is of no use, and is gone first. */
async function withoutOneChunk<T>(
  items: readonly T[],
  chunk: number,
  fails: Fails<T>,
): Promise<readonly T[] | undefined> {
  for (let end = items.length; end > 0; end -= chunk) {
    const start = Math.max(0, end - chunk);
    const rest = [...items.slice(0, start), ...items.slice(end)];
    if (rest.length > 0 && (await fails(rest))) return rest;
  }
  return undefined;
}

async function simplified<T>(
  items: readonly T[],
  fails: Fails<T>,
  simpler: (item: T) => readonly T[],
): Promise<readonly T[]> {
  let kept = items;
  for (const index of items.keys()) {
    const item = kept[index];
    if (item === undefined) break;
    for (const candidate of simpler(item)) {
      const changed = kept.with(index, candidate);
      if (!(await fails(changed))) continue;
      kept = changed;
      break;
    }
  }
  return kept;
}
