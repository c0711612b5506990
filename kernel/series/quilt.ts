import { Failure } from '#runner/lib/failure.ts';
import { printable } from './printable.ts';

/** One line of a quilt `series` file. */
export interface QuiltEntry {
  readonly file: string;
  readonly strip: number;
}

/**
 * Patches in the order of a quilt `series` file: `#` comments, `-pN` after the name.
 *
 * @throws Failure E_SERIES_MALFORMED (series) for `-R`, which takes a patch back, and what quilt does not know.
 */
export function parseQuiltSeries(text: string): readonly QuiltEntry[] {
  return text
    .split('\n')
    .map((line) => line.replace(/(?:^|\s)#.*$/u, '').trim())
    .filter((line) => line !== '')
    .map((line) => {
      const [file = '', ...options] = line.split(/\s+/u);
      return { file, strip: stripOf(options, line) };
    });
}

function stripOf(options: readonly string[], line: string): number {
  const words = options.join(' ').replace(/^-p (?=\w)/u, '-p');
  if (words === '' || words === '-pab') return 1;
  const strip = /^-p(\d)$/u.exec(words)?.[1];
  if (strip !== undefined) return Number(strip);
  const what = `the series file says ${printable(line)}: only -p0 to -p9 may follow the name of a patch`;
  throw new Failure('E_SERIES_MALFORMED', 'series', what, {
    hint: words === '-R' ? 'make a patch of what -R would do: `interdiff -q PATCH /dev/null`' : undefined,
  });
}
