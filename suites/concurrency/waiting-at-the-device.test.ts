import type { Client } from '../lib/client.ts';
import { eventually } from '../lib/eventually.ts';
import { NotifyCode } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { answerRequest, forgetName, nextRequest } from '../lib/raw-server.ts';

/** Who waits at /dev/fuse for what there is to do, and how it is told. */

/** Longer than any test. Seconds. */
const LONG = 100_000;
const ROOM = 2 ** 21;
const READERS = 3;

interface Bench {
  readonly fuse: FuseMount;
  readonly client: Client;
  /** In the place of the server, which is gone. */
  readonly server: Client;
  readonly device: number;
}

interface Event {
  /** Comes before it, and is over then. */
  readonly prepare?: (on: Bench) => Promise<unknown>;
  readonly make: (on: Bench) => unknown;
  readonly needs?: (guest: TestGuest) => boolean;
}

/** A request that the server has read. Who waits for the answer does so as long as the connection lasts. */
async function askAndRead({ fuse, client, server, device }: Bench): Promise<void> {
  client.stat({ path: fuse.file('none') }).catch(() => undefined);
  await nextRequest(server, device);
}

/** Whatever there can be for a server to read besides a new request, and that there will be nothing any more. */
const EVENTS: Readonly<Record<string, Event>> = {
  'a node to be forgotten': {
    make: ({ server, device }) => forgetName(server, device, 'f'),
  },
  'an INTERRUPT': {
    prepare: askAndRead,
    // It does not stop before the request is answered.
    make: ({ client }) => void client.kill('SIGSTOP').catch(() => undefined),
  },
  'a request that is sent anew': {
    prepare: askAndRead,
    make: ({ server, device }) => answerRequest(server, device, { unique: 0n, error: NotifyCode.RESEND }),
    needs: ({ expected }) => expected.resend === 'ok',
  },
  'the end of the connection': { make: ({ fuse }) => fuse.abort() },
};

guestTest(
  'who asks for SIGIO on the device gets it with whatever else there is to read, and at the end',
  async (t, guest) => {
    for (const [what, { prepare, make, needs }] of Object.entries(EVENTS)) {
      if (needs?.(guest) === false) continue;
      await using fuse = await guest.mountFuse({ entryValidS: LONG, attrValidS: LONG });
      await using client = await guest.client();
      await using server = await guest.client();
      await using reader = await guest.client();
      await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
      await client.stat({ path: fuse.file('f') });
      const device = await fuse.server.lendDevice(server);
      const fd = await fuse.server.lendDevice(reader);
      await fuse.server.kill('SIGKILL');
      const on = { fuse, client, server, device };
      await prepare?.(on);
      await reader.fcntl({ fd, cmd: 'F_SETOWN', arg: reader.pid });
      await reader.fcntl({ fd, cmd: 'F_SETFL', arg: 'O_ASYNC|O_NONBLOCK' });
      t.is(await reader.getpid({}), reader.pid, `${what}: still there`);
      // It has no handler: the signal ends it.
      const gone = reader.exited();
      await make(on);
      t.like(await gone, { signal: 'SIGIO' }, what);
      await fuse.abort();
      await client.kill('SIGCONT');
    }
  },
);

guestTest('all who read the device are told when the connection ends', async (t, guest) => {
  await using stack = new AsyncDisposableStack();
  const fuse = stack.use(await guest.mountFuse());
  const readers: { who: Client; fd: number }[] = [];
  for (let nth = 0; nth < READERS; nth++) {
    const who = stack.use(await guest.client());
    readers.push({ who, fd: await fuse.server.lendDevice(who) });
  }
  await fuse.server.kill('SIGKILL');
  const reading: Promise<string>[] = [];
  for (const { who, fd } of readers) {
    await who.fcntl({ fd, cmd: 'F_SETFL', arg: 0 });
    const told = who.errno.read({ fd, count: ROOM });
    told.catch(() => undefined);
    reading.push(told);
    const where = await eventually(
      () => guest.where(who.pid),
      (stacks) => stacks.includes('fuse_dev_do_read'),
    );
    t.regex(where, /fuse_dev_do_read/, 'it waits');
  }
  await fuse.abort();
  for (const told of reading) t.is(await told, 'ENODEV');
});
