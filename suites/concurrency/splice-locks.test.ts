import { text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { eventually } from '../lib/eventually.ts';
import { OpenFlag } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { openWithId } from '../lib/registration.ts';

/** Where a write waits for the inode, which others have locked: locks themselves are not named. */
const WAITS_FOR_INODE = 'wchan fuse_passthrough_write_iter';

interface Bench {
  readonly guest: TestGuest;
  readonly fuse: FuseMount;
  /** Has the pipe, and keeps it locked. */
  readonly holder: Client;
  readonly splicer: Client;
  readonly writer: Client;
}

/**
 * Splices from a pipe that is locked to one descriptor of `f`, and writes to another one meanwhile. Who splices
 * to a file that the server writes keeps the pipe locked until the answer comes.
 * @returns `written`, or where the write waits for as long as the splice does.
 */
async function writesBesideSplice(
  { guest, fuse, holder, splicer, writer }: Bench,
  { spliced, written }: { readonly spliced: number; readonly written: number },
): Promise<string> {
  const openFlags = OpenFlag.DIRECT_IO;
  await fuse.answerOpen({ opcode: 'OPEN', path: '/served' }, { openFlags, backingId: 0 }, 1);
  const served = await holder.open({ path: fuse.file('served'), flags: 'O_RDWR' });
  const [fdIn, into] = await holder.pipe({});
  await holder.write({ fd: into, data: 'onetwo' });
  const hold = await fuse.hold('WRITE');
  const holding = holder.splice({ fdIn, fdOut: served, offOut: 0, length: 3 });
  holding.catch(() => undefined);
  const request = await hold.arrived();

  const shared = await splicer.adoptFd({ pid: holder.pid, fd: fdIn });
  const splicing = splicer.splice({ fdIn: shared, fdOut: spliced, offOut: 0, length: 3 });
  splicing.catch(() => undefined);
  const stack = await eventually(
    () => guest.where(splicer.pid),
    (where) => where.includes('splice_write'),
  );
  if (!stack.includes('splice_write')) throw new Error(`the splice does not wait for the pipe: ${stack}`);
  let isWritten = false;
  const writing = writer.pwrite({ fd: written, data: 'xyz', offset: 4 }).then(() => {
    isWritten = true;
  });
  writing.catch(() => undefined);
  const where = await eventually(
    async () => (isWritten ? 'written' : guest.where(writer.pid)),
    (answer) => answer === 'written' || answer.includes(WAITS_FOR_INODE),
  );
  await hold.release(request);
  await hold.stop();
  await Promise.all([holding, splicing, writing]);
  for (const fd of [fdIn, into, served]) await holder.close({ fd });
  for (const fd of [shared, spliced]) await splicer.close({ fd });
  await writer.close({ fd: written });
  return where;
}

guestTest(
  'a splice that waits for its pipe does not keep others from writing the passthrough file (A22, K11)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ passthrough: 'off' });
    await using holder = await guest.client();
    await using splicer = await guest.client();
    await using writer = await guest.client();
    const bench = { guest, fuse, holder, splicer, writer };
    const path = fuse.backing('f');
    for (const name of ['f', 'served'])
      await holder.writeFile({ path: fuse.backing(name), data: '........' });

    const native = {
      spliced: await splicer.open({ path, flags: 'O_RDWR' }),
      written: await writer.open({ path, flags: 'O_RDWR' }),
    };
    t.is(await writesBesideSplice(bench, native), 'written', 'on the backing file itself');

    const first = await fuse.server.registerBacking({ path, flags: 'O_RDWR' });
    const spliced = await openWithId(guest, splicer, { fuse, id: first });
    const id = guest.expected.idsAreReusable
      ? first
      : await fuse.server.registerBacking({ path, flags: 'O_RDWR' });
    const passthrough = { spliced, written: await openWithId(guest, writer, { fuse, id }) };
    const where = await writesBesideSplice(bench, passthrough);
    t.is(text(await holder.readFile({ path })), 'two.xyz.', 'both arrive in the end');
    t.is(where, 'written', 'a write waits for the lock that the waiting splice has taken first');
  },
);
