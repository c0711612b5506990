/** A test file and how long it is thought to take. Milliseconds. */
export interface Expected {
  readonly file: string;
  readonly expectedMs: number;
}

export interface Known {
  readonly file: string;
  readonly bytes: number;
  readonly recordedMs: number | undefined;
}

/** Nothing was ever recorded: only the sizes tell files apart. */
const MS_PER_BYTE = 1;

/** The longest first. A file that never ran is thought to take as long for its size as the others do. Pure. */
export function estimate(files: readonly Known[]): readonly Expected[] {
  const known = files.flatMap(({ bytes, recordedMs }) =>
    recordedMs === undefined ? [] : [[bytes, recordedMs]],
  );
  const sum = (of: 0 | 1): number => known.reduce((total, pair) => total + (pair[of] ?? 0), 0);
  const rate = sum(0) > 0 && sum(1) > 0 ? sum(1) / sum(0) : MS_PER_BYTE;
  return files
    .map(({ file, bytes, recordedMs }) => ({ file, expectedMs: recordedMs ?? bytes * rate }))
    .sort((a, b) => b.expectedMs - a.expectedMs || (a.file < b.file ? -1 : 1));
}

/** Each file, longest first, to whoever has least to do so far. Nobody gets nothing. Pure. */
export function dealOut(longestFirst: readonly Expected[], jobs: number): readonly (readonly string[])[] {
  const shares = Array.from({ length: jobs }, () => ({ files: [] as string[], totalMs: 0 }));
  for (const { file, expectedMs } of longestFirst) {
    const least = shares.reduce((a, b) => (b.totalMs < a.totalMs ? b : a));
    least.files.push(file);
    least.totalMs += expectedMs;
  }
  return shares.map(({ files }) => files).filter((files) => files.length > 0);
}
