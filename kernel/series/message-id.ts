import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { exec, lastLines } from '#runner/lib/exec.ts';
import { Failure } from '#runner/lib/failure.ts';
import { printable } from './printable.ts';

/** A list archive may be slow; longer than this it is not there. Milliseconds. */
const FETCH_MS = 90_000;

/** The Message-ID that `spec` is, or that it ends in as a URL of a list archive. Pure. */
export function messageIdOf(spec: string): string | undefined {
  const url = /^https?:\/\/[^/\s]+\/(?:[^/\s]+\/)*([^/\s<>@]+@[^/\s<>]+)\/?$/u.exec(spec);
  const bare = /^(?:id:)?<?([^\s<>@/]+@[^\s<>@/]+)>?$/u.exec(spec);
  const id = url?.[1] ?? bare?.[1];
  return id?.startsWith('-') === true ? undefined : id;
}

/** The thread of a Message-ID as an mbox (latin1). @throws Failure E_B4_MISSING, E_B4_FAILED (infra). */
export async function fetchThread(id: string, signal: AbortSignal): Promise<string> {
  const found = await exec('sh', ['-c', 'command -v b4'], { signal });
  if (found.exitCode !== 0) {
    throw new Failure('E_B4_MISSING', 'infra', `${printable(id)} is a Message-ID, and b4 is not installed`, {
      hint: 'install b4, or save the thread as an mbox and name the file',
    });
  }
  const dir = await mkdtemp(join(tmpdir(), 'fusegate-b4-'));
  try {
    const fetched = await exec('b4', ['mbox', '-o', dir, '-n', 'thread', '--', id], {
      signal,
      timeoutMs: FETCH_MS,
    });
    const [name] = await readdir(dir);
    if (fetched.exitCode !== 0 || name === undefined) throw failed(id, fetched.stderr);
    return await readFile(join(dir, name), 'latin1');
  } catch (error) {
    if (error instanceof Failure && error.code === 'E_TIMEOUT')
      throw failed(id, 'no answer from the archive', error);
    throw error;
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

function failed(id: string, said: string, cause?: unknown): Failure {
  return new Failure(
    'E_B4_FAILED',
    'infra',
    `b4 could not fetch ${printable(id)}: ${printable(lastLines(said, 1))}`,
    {
      hint: 'is there a network? Save the thread as an mbox and name the file instead',
      cause,
    },
  );
}
