import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Blame, Failure } from '#runner/lib/failure.ts';
import { make, type MakeOptions } from '../build/make.ts';
import { buildFailure } from '../build/build-failure.ts';
import { formatAssignment, parseKconfig } from './kconfig.ts';
import { formatWishes, type Unmet, unmetWishes, type Wishes } from './merge.ts';

/**
 * Writes the .config: `tinyconfig`, the wishes over it, `olddefconfig`; and checks that what came out is what
 * was asked for.
 *
 * @param blame Who is to blame when a profile's wish is unmet or the configuration does not run at all.
 * @returns The number of symbols that are built in.
 * @throws Failure E_CONFIG_UNMET with each symbol asked for and what it became; those of buildFailure.
 */
export async function configure(wishes: Wishes, blame: Blame, options: MakeOptions): Promise<number> {
  const path = join(options.objects, '.config');
  const lines: string[] = [];
  const run = async (target: string): Promise<void> => {
    const result = await make([target], { ...options, onLine: (line) => lines.push(line) });
    if (result.exitCode !== 0) {
      throw await buildFailure({ step: `make ${target}`, lines, result, blame, options });
    }
  };
  await run('tinyconfig');
  await writeFile(path, `${await readFile(path, 'utf8')}\n${formatWishes(wishes)}`);
  await run('olddefconfig');
  const final = parseKconfig(await readFile(path, 'utf8'), path);
  const unmet = unmetWishes(wishes, final);
  if (unmet.length > 0) throw configUnmet(unmet, blame, path, options.log);
  return final.assignments.filter(({ value }) => value === 'y').length;
}

function configUnmet(unmet: readonly Unmet[], blame: Blame, config: string, log: string): Failure {
  const shown = unmet.slice(0, 8).map(({ symbol, asked, got, wish }) => {
    const became = got === 'n' ? 'not set' : got;
    return `${formatAssignment(symbol, asked)} (${wish.from}) is ${became}`;
  });
  const more = unmet.length > shown.length ? `, and ${unmet.length - shown.length} more` : '';
  return new Failure(
    'E_CONFIG_UNMET',
    unmet.some(({ wish }) => wish.own) ? 'user' : blame,
    `the kernel's configuration is not as asked: ${shown.join('; ')}${more}`,
    {
      hint: 'a symbol is dropped when it is misspelt, renamed, or lacks what it depends on',
      evidence: [
        { label: 'final .config', path: config },
        { label: 'configuration log', path: log },
      ],
    },
  );
}
