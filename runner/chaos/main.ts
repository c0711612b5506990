import { randomInt } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { realParts } from '#runner/cli/real-parts.ts';
import { ExitCode } from '#runner/lib/failure.ts';
import { Arena } from './arena.ts';
import { FAULTS } from './faults.ts';
import { shell, type Shelled } from './kills.ts';
import { PAIRS, tryPair } from './pairs.ts';
import { randomFrom } from './random.ts';
import { renderChaos, type Tried } from './render.ts';
import { tryFault } from './try-fault.ts';

/**
 * `make chaos`: real machines, of which everything may break. First each fault and each pair of runs once, then
 * random kills until there were as many as wanted. The seed is told, and `--seed` repeats its choices. 0 when
 * nothing was wrong.
 */
const { values } = parseArgs({
  options: {
    kills: { type: 'string', default: '200' },
    seed: { type: 'string' },
    profile: { type: 'string', default: 'mainline-6.12' },
    only: { type: 'string', multiple: true },
    out: { type: 'string', default: 'chaos.md' },
  },
});

/** Short files with tests that pass on every kernel that should. */
const SUITES = ['suites/passthrough-io/append.test.ts', 'suites/passthrough-io/create.test.ts'];

const seed = values.seed === undefined ? randomInt(2 ** 31) : Number(values.seed);
const { profile } = values;
say(`seed ${seed}, profile ${profile}`);
process.exitCode = (await chaos()) ? ExitCode.passed : ExitCode.infrastructure;

async function chaos(): Promise<boolean> {
  await using arena = await Arena.enter();
  const tried: Tried[] = [];
  const bundle = await realParts.bundleDaemon(arena.path('daemon'));
  const wanted = ({ name }: { readonly name: string }): boolean =>
    values.only === undefined || values.only.includes(name);
  const field = { arena, profile, bundle };
  const trials = [
    ...FAULTS.filter(wanted).map((fault) => () => tryFault(fault, field)),
    ...PAIRS.filter(wanted).map((pair) => () => tryPair(pair, field, SUITES)),
  ];
  for (const trial of trials) {
    const result = await trial();
    tried.push(result);
    say(`${result.wrong.length === 0 ? 'right' : 'WRONG'}: ${result.name}: ${result.seen}`);
    for (const wrong of result.wrong) say(`    ${wrong}`);
  }
  const shelled = await kill(arena, Number(values.kills));
  const text = renderChaos({ seed, profile, tried, shelled });
  await writeFile(values.out, text);
  say(text);
  return [...tried, ...shelled].every(({ wrong }) => wrong.length === 0);
}

async function kill(arena: Arena, wanted: number): Promise<readonly Shelled[]> {
  const random = randomFrom(seed);
  const shelled: Shelled[] = [];
  if (wanted === 0) return shelled;
  const common = { arena, random, profile, suites: SUITES };
  const calm = await shell({ ...common, kills: 0, nth: 0, expected: -1 });
  const expected = Number(/^(\d+) tests/.exec(calm.wrong[0] ?? '')?.[1]);
  if (!(expected > 0)) throw new Error(`the calm run: ${calm.wrong.join('; ')}`);
  // Whoever has enough of it gets what there is.
  const enough = new AbortController();
  process.once('SIGINT', () => enough.abort());
  let kills = 0;
  for (let nth = 1; kills < wanted && !enough.signal.aborted; nth += 1) {
    const result = await shell({ ...common, kills: wanted - kills, nth, expected });
    shelled.push(result);
    kills += result.hits.length;
    const hits = result.hits.map(({ role, phase, atMs }) => `${role} (${phase}, ${atMs} ms)`);
    say(`${kills}/${wanted} ${result.how}: ${hits.join(', ') || 'nothing'}: ${result.end}`);
    for (const wrong of result.wrong) say(`    WRONG: ${wrong}`);
  }
  return shelled;
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}
