import { z } from 'zod';
import type { Guest } from '#runner/guest/guest.ts';
import { Failure } from '#runner/lib/failure.ts';
import type { RunParts } from '#runner/run/parts.ts';
import { numberSet, type NumberSet } from './number-set.ts';

/** No mistake is active, and the kernel notes which would have been come across. */
export const NOTE_REACHED = -1;

export interface Switch {
  /** Number of the active mistake, or `NOTE_REACHED`. */
  readonly mutant: number;
  /** With `NOTE_REACHED`: what was come across on a machine between a test's start and its clean-up. */
  readonly onReached?: ((machine: string, reached: NumberSet) => void) | undefined;
}

const ACTIVE = '/sys/module/kernel/parameters/fusegate_mutant';
const REACHED = '/sys/kernel/fusegate_reached';

/**
 * The parts of a run whose machines have this mistake, chosen after they are up: the saved machine is the same
 * for all. Nothing but `fusegate mutants` makes such parts, and a kernel without the series has no such switch.
 */
export function partsWithMutant(parts: RunParts, chosen: Switch): RunParts {
  const { states } = parts;
  return {
    ...parts,
    deployDaemon: async (...args) => switched(await parts.deployDaemon(...args), chosen),
    states: states && {
      ...states,
      restore: async (...args) => switched(await states.restore(...args), chosen),
    },
  };
}

async function switched<G extends Guest>(guest: G, { mutant, onReached }: Switch): Promise<G> {
  await using stack = new AsyncDisposableStack();
  stack.use(guest);
  await writeParameter(guest, ACTIVE, String(mutant));
  const owned = stack.move();
  const call: Guest['call'] = async (method, params, options) => {
    const answer = await guest.call(method, params, options);
    if (onReached !== undefined) await note(guest, method, onReached);
    return answer;
  };
  return { ...guest, call, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** A lease begins with a mark in the kernel's log and ends with a reset. */
async function note(
  guest: Guest,
  method: string,
  onReached: NonNullable<Switch['onReached']>,
): Promise<void> {
  if (method === 'kernel.mark') await writeParameter(guest, REACHED, '0');
  if (method !== 'reset') return;
  const { stdout } = await run(guest, ['cat', REACHED]);
  onReached(guest.machine.id, numberSet(stdout));
}

async function writeParameter(guest: Guest, path: string, value: string): Promise<void> {
  const { code } = await run(guest, ['sh', '-c', `echo ${value} > ${path}`]);
  if (code === 0) return;
  throw new Failure('E_NO_MUTANTS', 'user', 'this kernel has no switch for mistakes', {
    hint: 'it has to be built with --series kernel/series/mutants, as `fusegate mutants` does',
  });
}

const resultSchema = z.looseObject({ code: z.number().nullable(), stdout: z.instanceof(Uint8Array) });

async function run(
  guest: Guest,
  argv: readonly string[],
): Promise<{ readonly code: number | null; readonly stdout: Uint8Array }> {
  return resultSchema.parse(await guest.call('run', { argv }));
}
