import { text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { eventually } from '../lib/eventually.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { openAs, register } from '../lib/open-modes.ts';

interface Bench {
  readonly guest: TestGuest;
  readonly fuse: FuseMount;
  /** Has one of the two locks, for as long as the server keeps a WRITE of it. */
  readonly holder: Client;
  /** Splices from the pipe to the file. */
  readonly splicer: Client;
  /** Asks whether the other lock is free. */
  readonly prober: Client;
}

/** Which lock a splice has while it waits for the other one. */
type Order = 'the pipe first' | 'the file first';

/** Waits until a client's call is over, or waits itself at that place. @returns whether it is over. */
async function isOver({ guest, prober }: Bench, call: Promise<unknown>, waitsAt: string): Promise<boolean> {
  let over = false;
  const ends = (): void => {
    over = true;
  };
  call.then(ends, ends);
  const where = await eventually(
    async () => (over ? '' : guest.where(prober.pid)),
    (stack) => stack === '' || stack.includes(waitsAt),
  );
  if (where !== '' && !where.includes(waitsAt)) throw new Error(`neither over nor waiting: ${where}`);
  return where === '';
}

/** Starts a splice and comes back when it waits. In a list: a promise that is returned would be waited for. */
async function waitingSplice(
  { guest, splicer }: Bench,
  how: { readonly fdIn: number; readonly fdOut: number },
): Promise<Promise<number>[]> {
  const splicing = splicer.splice({ ...how, offOut: 0, length: 3 });
  splicing.catch(() => undefined);
  const stack = await eventually(
    () => guest.where(splicer.pid),
    (where) => where.includes('splice_write'),
  );
  if (!stack.includes('splice_write')) throw new Error(`the splice does not wait: ${stack}`);
  return [splicing];
}

/** The pipe is locked: is the file as well? `spliced`, `written`: two descriptors of it. */
async function orderWithPipeLocked(
  bench: Bench,
  { spliced, written }: { readonly spliced: number; readonly written: number },
): Promise<Order> {
  const { fuse, holder, splicer, prober } = bench;
  const served = await openAs(holder, fuse, { name: 'served', mode: 'direct' });
  const [fdIn, into] = await holder.pipe({});
  await holder.write({ fd: into, data: 'onetwo' });
  const shared = await splicer.adoptFd({ pid: holder.pid, fd: fdIn });
  const hold = await fuse.hold('WRITE');
  const holding = holder.splice({ fdIn, fdOut: served, offOut: 0, length: 3 });
  holding.catch(() => undefined);
  const request = await hold.arrived();
  const [splicing] = await waitingSplice(bench, { fdIn: shared, fdOut: spliced });
  const writing = prober.pwrite({ fd: written, data: 'xyz', offset: 4 });
  const order = (await isOver(bench, writing, 'wchan fuse_passthrough_write_iter'))
    ? 'the pipe first'
    : 'the file first';
  await hold.release(request);
  await hold.stop();
  await Promise.all([holding, splicing, writing]);
  for (const fd of [fdIn, into, served]) await holder.close({ fd });
  await splicer.close({ fd: shared });
  return order;
}

/** The file is locked: is the pipe as well? Both descriptors of it read and write at the server. */
async function orderWithFileLocked(
  bench: Bench,
  { spliced, written }: { readonly spliced: number; readonly written: number },
): Promise<Order> {
  const { fuse, holder, splicer, prober } = bench;
  const [fdIn, into] = await holder.pipe({});
  await holder.write({ fd: into, data: 'onetwo' });
  const shared = await splicer.adoptFd({ pid: holder.pid, fd: fdIn });
  const probed = await prober.adoptFd({ pid: holder.pid, fd: fdIn });
  const hold = await fuse.hold('WRITE');
  const holding = holder.pwrite({ fd: written, data: 'XYZ', offset: 4 });
  holding.catch(() => undefined);
  const request = await hold.arrived();
  const [splicing] = await waitingSplice(bench, { fdIn: shared, fdOut: spliced });
  const reading = prober.read({ fd: probed, count: 1 });
  const order = (await isOver(bench, reading, 'pipe_read')) ? 'the file first' : 'the pipe first';
  await hold.stop();
  await hold.release(request);
  await Promise.all([holding, splicing, reading]);
  for (const fd of [fdIn, into]) await holder.close({ fd });
  await splicer.close({ fd: shared });
  await prober.close({ fd: probed });
  return order;
}

guestTest(
  'splices to the descriptors of a passthrough file lock file and pipe in one order, not in two (A22, K11)',
  async (t, guest) => {
    guest.needs(guest.expected.hasIoModes, 'writes at the server beside passthrough: an id comes first');
    await using fuse = await guest.mountFuse({ passthrough: 'off' });
    await using holder = await guest.client();
    await using splicer = await guest.client();
    await using prober = await guest.client();
    const bench = { guest, fuse, holder, splicer, prober };
    for (const name of ['f', 'served'])
      await holder.writeFile({ path: fuse.backing(name), data: '........' });
    const path = fuse.backing('f');
    const native = {
      spliced: await splicer.open({ path, flags: 'O_RDWR' }),
      written: await prober.open({ path, flags: 'O_RDWR' }),
    };
    t.is(await orderWithPipeLocked(bench, native), 'the pipe first', 'a native file');

    const id = await register(fuse, 'f');
    const open = (client: Client, mode: 'passthrough' | 'passthrough-direct') => {
      return openAs(client, fuse, { name: 'f', mode, id });
    };
    const through = {
      spliced: await open(splicer, 'passthrough'),
      written: await open(prober, 'passthrough'),
    };
    const passthrough = await orderWithPipeLocked(bench, through);
    const direct = {
      spliced: await open(splicer, 'passthrough-direct'),
      written: await open(holder, 'passthrough-direct'),
    };
    const atServer = await orderWithFileLocked(bench, direct);
    t.regex(text(await holder.readFile({ path })), /^(?:one|net)\.XYZ\.$/, 'all of it arrives in the end');
    t.is(passthrough, atServer, 'with DIRECT_IO beside PASSTHROUGH, and with PASSTHROUGH alone');
  },
);
