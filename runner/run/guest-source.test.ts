import test from 'ava';
import { guestNeeds } from '#kernel/profile.ts';
import type { RunEvent } from '#runner/lib/events.ts';
import { Failure } from '#runner/lib/failure.ts';
import { FakeGuest } from '#runner/lease/fake-guest.ts';
import type { SavedMachine } from '#runner/machine/saved-machine.ts';
import { GuestSource } from './guest-source.ts';
import type { MachineStates, RunParts } from './parts.ts';

const saved = { state: '/nowhere/state' } as SavedMachine;

test('machines: each is a copy of the one that was saved, which is made once', async (t) => {
  const bench = setUp({});
  await bench.start('machine-1');
  await bench.start('machine-2');
  t.deepEqual(bench.calls, ['save', 'restore machine-1', 'restore machine-2']);
  t.true(bench.source.restores);
  // The first is told as stages; a further one is nothing to tell of.
  t.deepEqual(
    bench.events.flatMap((event) => (event.type === 'stage-finished' ? [event.stage] : [])),
    ['boot', 'deploy'],
  );
});

test('machines: with --cold none is saved or restored', async (t) => {
  const bench = setUp({ cold: true });
  await bench.start('machine-1');
  t.deepEqual(bench.calls, ['boot machine-1']);
  t.false(bench.source.restores);
});

test('machines: what cannot be saved here boots, and that is said once', async (t) => {
  const failure = new Failure('E_DISK_FULL', 'infra', 'no space left');
  const bench = setUp({ save: () => Promise.reject(failure) });
  await bench.start('machine-1');
  await bench.start('machine-2');
  t.deepEqual(bench.calls, ['save', 'boot machine-1', 'boot machine-2']);
  t.deepEqual(bench.notes(), ['no space left; every machine boots from now on (E_DISK_FULL)']);
});

test('machines: a saved one that cannot be restored is thrown away and the machine boots', async (t) => {
  const failure = new Failure('E_RESTORE', 'infra', 'truncated');
  const bench = setUp({ restore: () => Promise.reject(failure) });
  await bench.start('machine-1');
  await bench.start('machine-2');
  t.deepEqual(bench.calls, ['save', 'restore machine-1', 'discard', 'boot machine-1', 'boot machine-2']);
  t.deepEqual(bench.notes(), ['truncated; every machine boots from now on (E_RESTORE)']);
});

test('machines: a kernel that does not boot is a result and no reason to boot it again', async (t) => {
  const failure = new Failure('E_BOOT_PANIC', 'kernel', 'it panicked');
  const bench = setUp({ save: () => Promise.reject(failure) });
  t.is(await t.throwsAsync(bench.start('machine-1')), failure);
  t.deepEqual(bench.calls, ['save']);
  t.deepEqual(bench.notes(), []);
});

test('machines: one that is on its way at the end of a run says nothing of the others', async (t) => {
  const failure = new Failure('E_MACHINE_STOPPED', 'infra', 'no longer needed');
  const bench = setUp({ restore: () => Promise.reject(failure) });
  t.is(await t.throwsAsync(bench.start('machine-1')), failure);
  t.deepEqual(bench.calls, ['save', 'restore machine-1']);
  t.deepEqual(bench.notes(), []);
  t.true(bench.source.restores);
});

interface SetUp {
  readonly cold?: boolean;
  readonly save?: MachineStates['save'];
  readonly restore?: MachineStates['restore'];
}

function setUp({ cold = false, save, restore }: SetUp) {
  const calls: string[] = [];
  const events: RunEvent[] = [];
  const context = {
    emit: (event: RunEvent) => void events.push(event),
    signal: new AbortController().signal,
  };
  const states: MachineStates = {
    save: (...args) => {
      calls.push('save');
      return save?.(...args) ?? Promise.resolve({ saved, cached: false });
    },
    restore: (...args) => {
      calls.push(`restore ${args[1].name}`);
      return restore?.(...args) ?? Promise.resolve(new FakeGuest(args[1].name).guest);
    },
    discard: () => {
      calls.push('discard');
      return Promise.resolve();
    },
  };
  const guests = new Map<unknown, FakeGuest>();
  const parts = {
    states,
    bootMachine: ({ name }: { name: string }) => {
      calls.push(`boot ${name}`);
      const guest = new FakeGuest(name);
      guests.set(guest.machine, guest);
      return Promise.resolve(guest.machine);
    },
    deployDaemon: (machine: unknown) => Promise.resolve(guests.get(machine)?.guest),
  } as unknown as RunParts;
  const { kernel } = new FakeGuest().machine;
  const prepared = {
    kernel,
    accelerator: 'tcg' as const,
    bundle: { path: '', sha256: '' },
    rootfs: { key: '', rootDisk: '', initramfs: '', scratchDisk: '' },
    needs: guestNeeds({}),
  };
  const source = new GuestSource({ prepared, parts, append: '', out: '/nowhere', abi: 'backing-id', cold });
  return {
    source,
    calls,
    events,
    start: (name: string) => source.start(name, context),
    notes: () => events.flatMap((event) => (event.type === 'note' ? [event.text] : [])),
  };
}
