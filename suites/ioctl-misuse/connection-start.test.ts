import { text } from '../lib/bytes.ts';
import type { Rule } from '../lib/fuse-abi.ts';
import type { FuseMount, FuseOptions } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import { showsAsStopped } from '../lib/where-it-waits.ts';

/** Calls to a mount whose INIT has no answer yet, or one that the kernel does not take. */

const HOLD_INIT: Rule = { match: { opcode: 'INIT' }, action: { do: 'hold' } };
const REFUSE_INIT: Rule = { match: { opcode: 'INIT' }, action: { do: 'error', errno: 'EIO' } };

/** Of an answer that only kernels with idmapped mounts of FUSE look at. */
const IDMAP = { init: { addFlags: ['ALLOW_IDMAP'] } } as const;

const REFUSED: Readonly<Record<string, FuseOptions>> = {
  'names another major version': { init: { major: 8 } },
  'allows idmapped mounts without default_permissions': IDMAP,
  'is an error': { rules: [REFUSE_INIT], waitForInit: false },
};

for (const [what, options] of Object.entries(REFUSED)) {
  guestTest(
    `a mount whose INIT answer ${what} refuses every call with ECONNREFUSED (B25)`,
    async (t, guest) => {
      const idmapped = guest.expected.idmappedFuse === 'ok';
      if (options === IDMAP) guest.needs(idmapped, 'idmapped mounts of FUSE');
      await using fuse = await guest.mountFuse(options);
      await using client = await guest.client();
      await client.writeFile({ path: fuse.backing('f'), data: 'served' });
      await fuse.waitFor('INIT', 'answered');
      for (const path of [fuse.path, fuse.file('f')]) {
        t.is(await client.errno.stat({ path }), 'ECONNREFUSED', `stat of ${path}`);
      }
      t.is(await client.errno.statfs({ path: fuse.path }), 'ECONNREFUSED', 'statfs');
      t.deepEqual(await fuse.opcodes({}), ['INIT'], 'the server gets no request');
    },
  );
}

guestTest(
  'where POSIX_ACL has the kernel check permissions, an INIT answer may allow idmapped mounts (B25)',
  async (t, guest) => {
    guest.needs(guest.expected.idmappedFuse === 'ok', 'idmapped mounts of FUSE');
    const init = { addFlags: ['ALLOW_IDMAP', 'POSIX_ACL'] } as const;
    await using fuse = await guest.mountFuse({ defaultPermissions: false, init });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'served' });
    t.is(await client.errno.stat({ path: fuse.path }), 'ok', 'the mount works');
    t.is(text(await client.readFile({ path: fuse.file('f') })), 'served');
  },
);

/** Waits until a call waits beside the INIT that is held. */
function oneMoreWaits(fuse: FuseMount): Promise<number | null> {
  return fuse.untilWaiting(2);
}

guestTest('a call that comes before INIT is answered waits, and goes on then (B25)', async (t, guest) => {
  await using fuse = await guest.mountFuse({ waitForInit: false, rules: [HOLD_INIT] });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'served' });
  const init = await fuse.waitFor('INIT', 'held');
  const reading = client.readFile({ path: fuse.file('f') });
  reading.catch(() => undefined);
  t.is(await oneMoreWaits(fuse), 2, 'INIT and the call');
  t.deepEqual(await fuse.opcodes({}), ['INIT'], 'the call is not sent before INIT is answered');
  await fuse.server.call('held.release', { seq: init.seq });
  t.is(text(await reading), 'served', 'it goes on');
});

guestTest(
  'a connection that is aborted before INIT is answered ends the calls that wait with ENOTCONN (B25, H3)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ waitForInit: false, rules: [HOLD_INIT] });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'served' });
    await fuse.waitFor('INIT', 'held');
    const asking = client.errno.stat({ path: fuse.file('f') });
    t.is(await oneMoreWaits(fuse), 2, 'INIT and the call');
    await fuse.abort();
    t.is(await asking, 'ENOTCONN', 'the call that waited for INIT');
    t.is(await client.errno.stat({ path: fuse.file('f') }), 'ENOTCONN', 'one that comes later');
  },
);

guestTest(
  'who waits for INIT to be answered can be killed, and asks nothing then (B25)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ waitForInit: false, rules: [HOLD_INIT] });
    await using client = await guest.client();
    await using victim = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'served' });
    const init = await fuse.waitFor('INIT', 'held');
    const asking = victim.errno.stat({ path: fuse.file('f') });
    asking.catch(() => undefined);
    t.is(await oneMoreWaits(fuse), 2, 'INIT and the call');
    t.like(await victim.kill('SIGKILL'), { signal: 'SIGKILL' });
    t.is(await fuse.untilWaiting(1), 1, 'INIT alone');
    t.deepEqual(await fuse.opcodes({}), ['INIT']);
    await fuse.server.call('held.release', { seq: init.seq });
    t.is(text(await client.readFile({ path: fuse.file('f') })), 'served', 'the mount works');
  },
);

guestTest(
  'who waits for INIT to be answered goes on waiting after a signal that does not kill (B25)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ waitForInit: false, rules: [HOLD_INIT] });
    await using client = await guest.client();
    const init = await fuse.waitFor('INIT', 'held');
    const asking = client.errno.statfs({ path: fuse.path });
    asking.catch(() => undefined);
    t.is(await oneMoreWaits(fuse), 2, 'INIT and the call');
    // The one signal that interrupts a wait and needs no handler.
    const stopped = client.kill('SIGSTOP');
    t.true(await showsAsStopped(guest, client), 'the caller has the signal');
    t.is(await fuse.waiting(), 2, 'INIT and the call still');
    await fuse.server.call('held.release', { seq: init.seq });
    await stopped;
    await client.kill('SIGCONT');
    t.is(await asking, 'ok', 'what the call gives once INIT is answered');
  },
);

guestTest(
  'all calls that come before INIT is answered go on then, or are refused if it is an error (B25)',
  async (t, guest) => {
    // More than the end of INIT alone may wake: one caller, as that of any request in the background.
    const CALLS = 3;
    for (const [what, action, errno] of [
      ['taken', undefined, 'ok'],
      ['an error', { do: 'error', errno: 'EIO' }, 'ECONNREFUSED'],
    ] as const) {
      await using fuse = await guest.mountFuse({ waitForInit: false, rules: [HOLD_INIT] });
      await using client = await guest.client();
      const init = await fuse.waitFor('INIT', 'held');
      // Which needs no lock: names of one directory would wait for each other.
      const asking = Array.from({ length: CALLS }, () => client.errno.statfs({ path: fuse.path }));
      for (const asked of asking) asked.catch(() => undefined);
      t.is(await fuse.untilWaiting(1 + CALLS), 1 + CALLS, `${what}: INIT and the calls`);
      await fuse.server.call('held.release', { seq: init.seq, ...(action === undefined ? {} : { action }) });
      t.is(await fuse.untilWaiting(0), 0, `${what}: none of the calls waits any more`);
      t.deepEqual(
        await Promise.all(asking),
        asking.map(() => errno),
        `${what}: what they gave`,
      );
    }
  },
);
