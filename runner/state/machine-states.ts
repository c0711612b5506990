import { rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { attachAgent } from '#runner/guest/attach.ts';
import { restoreMachine } from '#runner/machine/saved-machine.ts';
import type { MachineStates } from '#runner/run/parts.ts';
import { pruneStates } from './prune-states.ts';
import { saveGuest } from './save-guest.ts';

/** How long a restored agent may take to answer, with KVM and without. Milliseconds. */
const ANSWER_MS = { kvm: 5_000, tcg: 30_000 } as const;

/** Saved machines in the cache directory. */
export const machineStates: MachineStates = {
  save: async (request, context) => {
    const result = await saveGuest(request, context);
    if (!result.cached) await pruneStates();
    return result;
  },
  restore: async (saved, { name, out }, { emit, signal }) => {
    await using stack = new AsyncDisposableStack();
    const machine = stack.use(await restoreMachine({ id: name, saved, runDir: out, emit, signal }));
    const answerMs = ANSWER_MS[saved.accelerator];
    const guest = stack.use(await attachAgent(machine, machine.port, { signal, answerMs, restored: true }));
    emit({ type: 'machine-ready', machine: name, bootMs: machine.bootMs, deployMs: guest.deployMs });
    const owned = stack.move();
    return { ...guest, [Symbol.asyncDispose]: () => owned.disposeAsync() };
  },
  discard: async ({ state }) => rm(dirname(state), { recursive: true, force: true }),
};
