import { Failure } from '#runner/lib/failure.ts';
import { cleanLine } from '#runner/lib/clean-text.ts';
import { runStage } from '#runner/lib/stage.ts';
import type { DeployedGuest, Guest } from '#runner/guest/guest.ts';
import type { BootedMachine } from '#runner/machine/machine.ts';
import type { PooledGuest } from '#runner/lease/pool.ts';
import { kernelLogLines } from '#runner/lease/reset-report.ts';
import { resetGuest } from '#runner/lease/settle.ts';
import { recogniseFaults } from '#runner/verdict/kernel-log.ts';
import type { GuestNeeds } from '#kernel/profile.ts';
import type { PartContext, RunParts } from './parts.ts';
import type { Prepared } from './prepare.ts';

export interface StartOptions {
  readonly prepared: Prepared;
  readonly parts: RunParts;
  readonly append: string;
  readonly out: string;
}

/** Before the slowdown. Milliseconds. */
const FIRST_RESET_MS = 20_000;

/** One machine from its boot to a daemon that answers, with a clean slate: what follows is a test's doing. */
export async function startGuest(
  options: StartOptions,
  name: string,
  context: PartContext,
): Promise<PooledGuest> {
  await using stack = new AsyncDisposableStack();
  const guest = await bootAndDeploy(options, name, context, stack);
  const pooled = await provedGuest(guest, options.prepared.needs, context);
  const owned = stack.move();
  return { ...pooled, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** A guest whose slate is clean; it is ended when it cannot be cleaned. What its kernel said so far is told. */
export async function provedGuest(
  measured: Guest,
  needs: GuestNeeds,
  context: PartContext,
): Promise<PooledGuest> {
  await using stack = new AsyncDisposableStack();
  stack.use(measured);
  // What is measured is arithmetic, which a kernel that checks itself does as fast as any.
  const guest: Guest = { ...measured, slowdown: measured.slowdown * needs.slowdown };
  const reset = await resetGuest(guest, FIRST_RESET_MS, context.signal);
  if (reset instanceof Failure) throw reset;
  const { id, consolePath } = guest.machine;
  for (const { kind, title, fingerprint } of recogniseFaults(kernelLogLines(reset))) {
    const evidence = [{ label: 'whole console', path: consolePath }];
    context.emit({
      type: 'kernel-fault',
      machine: id,
      kind,
      title: cleanLine(title),
      fingerprint,
      test: null,
      evidence,
    });
  }
  const owned = stack.move();
  return { guest, taint: reset.taint, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** The machine, and on it the guest; both are given to `stack`. */
export async function bootAndDeploy(
  options: StartOptions,
  name: string,
  context: PartContext,
  stack: AsyncDisposableStack,
): Promise<DeployedGuest> {
  const machine = stack.use(await bootMachine(options, name, context));
  const { bundle } = options.prepared;
  const guest = await runStage(context.emit, { stage: 'deploy', title: 'daemon' }, async () => {
    const value = await options.parts.deployDaemon(machine, bundle, context);
    return { value, cached: false, detail: `slowdown ${value.slowdown.toFixed(1)}` };
  });
  return stack.use(guest);
}

export function bootMachine(
  { prepared, parts, append, out }: StartOptions,
  name: string,
  context: PartContext,
): Promise<BootedMachine> {
  const { kernel, rootfs, accelerator, needs } = prepared;
  const stage = { stage: 'boot', title: `${kernel.release} (${accelerator})` } as const;
  return runStage(context.emit, stage, async () => {
    const value = await parts.bootMachine({ name, kernel, rootfs, accelerator, needs, append, out }, context);
    return { value, cached: false, detail: `${kernel.release}, ${accelerator}` };
  });
}
