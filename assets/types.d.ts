// Types that several modules share; read by the type checker only.

type Controls = Record<string, any>; // by name, as the panel's fields hold them

interface Model {
  name: string; revision: string | null; is_sample: boolean; precision: string; device: string; device_name: string;
  licence: string | null; adapters: string[];
  parameters: number; weight_bytes: number; max_num_seqs: number; max_tokens: number; why: string;
  served: Served | null; // null where the model is computed by the playground itself
}

interface Served { // gptj_demo/served.py
  server: string; lacks: string[]; // names of controls
}

interface Status { // gptj_demo/ui/model_status.py
  state: string; detail: string; progress: number | null; context_length: number; streams_running: number;
  streams_waiting: number; tokens_reserved: number; tokens_written: number; engine_memory_bytes: number | null; software: string;
  filter: { kind: string; action: string } | null; takes_reports: boolean;
  is_lent: boolean; // the GPU sleeps between requests
  lease?: string; // what the page holds of it: asleep, waking or awake
  model: Model | null; texts: { detail: ServerMessage; why: ServerMessage | null };
}

type ServerMessage = import("./core/i18n.js").ServerMessage; // a server's message

type Piece = [text: string, run: number]; // run 0 is the person
type Place = [from: number, to: number];

interface Step {
  kind: string; at: number; removed: Piece[]; inserted: Piece[]; before: Place; after: Place; time: number;
}

interface NodeRun { // what a node that the model wrote was asked and how it ended
  prompt_length: number; controls: Controls; seed?: number; model?: string; revision?: string; precision?: string;
  reason?: string; message?: string; tokens?: number; mean_logprob?: number;
}

interface TreeNode {
  id: string; parent: string; at: number; pieces: Piece[]; kind: string; name: string; starred: boolean; time: number;
  run: NodeRun | null;
}

interface Session {
  id: string; name: string; time: number; stamp: string | null;
  written: import("./core/text.js").WrittenText; tree: import("./core/tree.js").BranchTree;
  controls: Controls | null; // those that differ from their initial values
  scaffold: { text: string; before: Controls; values: Controls; turns?: import("./core/turns.js").Turns } | null; // what the last one wrote and set
  memory: import("./core/memory.js").Memory | null; // read besides the text
}

interface Alternative {
  token_id: number; text: string; kind: number; logprob: number; sampled_logprob: number | null; removed_by: string | null;
}

interface Token {
  token_id: number; text: string; kind: number; length: number; logprob: number | null; sampled_logprob: number | null;
  rank: number | null; filtered_away: boolean; alternatives: Alternative[];
}

interface Cell { // characters that tokens share: one of several tokens, or several of one
  from: number; to: number; tokens: Token[]; first: number; logprob: number | null;
  stretch: import("./core/tokens.js").Stretch;
}

interface LinkContent {
  text: string; controls: Controls; memory?: import("./core/memory.js").Memory;
  words?: string; hash?: string; length?: number; // what the model wrote, or its fingerprint and length
  of?: [number, number]; ended?: string; model?: Record<string, string | null>;
  isEarlier?: boolean; // made when the same seed gave other random numbers
}

interface Component { // what Gradio gives the script of a component
  element: HTMLElement;
  trigger: (event: string, data?: any) => void;
  props: Record<string, any>;
  server: Record<string, (...given: any[]) => Promise<any>>;
  watch: (prop: string, changed: () => void) => void;
}

interface Language { name: string; direction: string; failed: string; }

interface Window { gptj: { views: string[]; language: string; languages: Record<string, Language> } & Record<string, any>; }
