/** What `git format-patch --base` writes below a cover letter or a patch: where the series belongs. */
export interface Trailers {
  /** The commit it was made on; an object name, in full or not. */
  readonly baseCommit: string | undefined;
  /** `git patch-id --stable` of patches that have to be there first. */
  readonly prerequisites: readonly string[];
}

/** Pure; of several base commits the first counts. */
export function parseTrailers(text: string): Trailers {
  const all = (name: string): readonly string[] =>
    [...text.matchAll(new RegExp(`^${name}: ([0-9a-f]{7,64})[ \\t]*\\r?$`, 'gmu'))].map(([, id = '']) => id);
  return { baseCommit: all('base-commit')[0], prerequisites: [...new Set(all('prerequisite-patch-id'))] };
}

export function joinTrailers(all: readonly Trailers[]): Trailers {
  return {
    baseCommit: all.find(({ baseCommit }) => baseCommit !== undefined)?.baseCommit,
    prerequisites: [...new Set(all.flatMap(({ prerequisites }) => prerequisites))],
  };
}
